//! What makes one table of variables into everything that depends on it.

/// One variable of the configuration, as help and documentation describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name in the environment, and of the binding.
    pub name: &'static str,
    /// What stands for a missing value.
    pub presence: Presence,
    /// One line of help.
    pub help: &'static str,
}

/// What happens where a variable has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The deployment is misconfigured.
    Required,
    /// This text takes its place, parsed like any other.
    Default(&'static str),
    /// The feature is off, or the choice is left to the platform.
    Optional,
    /// It depends on the other variables of its group.
    Grouped,
}

/// Makes a table of variables into [`Config`](super::Config), its reader, and the table as data.
///
/// An entry is `"NAME" => field: Type = presence(default, parser);` under a line of help. The presence is the method of
/// [`Reader`](super::reader::Reader) that reads it. A group is read by a method of its own, and lists its variables.
macro_rules! configuration {
    (
        $($(#[doc = $help:literal])+ $name:literal => $field:ident: $type:ty = $presence:ident($($argument:expr),+);)*
        $(group $group:ident: $group_type:ty { $($(#[doc = $member_help:literal])+ $member:literal;)+ })*
    ) => {
        /// Everything that an operator can set. The table in this module's source describes each variable.
        #[derive(Clone, Debug)]
        pub struct Config {
            $(#[doc = concat!("`", $name, "`:" $(, $help)+)] pub $field: $type,)*
            $(#[doc = concat!("The group" $(, " `", $member, "`")+, ".")] pub $group: $group_type,)*
        }

        impl Config {
            /// Every variable is read before the first problem ends it, so that all problems are reported together.
            fn read<S: Fn(&str) -> Result<Option<String>, Unreadable>>(reader: &mut Reader<S>) -> Option<Self> {
                $(let $field = reader.$presence($name, $($argument),+);)*
                $(let $group = reader.$group();)*
                Some(Self { $($field: $field?,)* $($group: $group?,)* })
            }
        }

        /// Every variable that the service reads.
        pub const TABLE: &[Variable] = &[
            $(Variable {
                name: $name,
                presence: configuration!(@presence $presence($($argument),+)),
                help: concat!($($help),+).trim_ascii(),
            },)*
            $($(Variable { name: $member, presence: Presence::Grouped, help: concat!($($member_help),+).trim_ascii() },)+)*
        ];
    };
    (@presence required($parse:expr)) => { Presence::Required };
    (@presence default($text:expr, $parse:expr)) => { Presence::Default($text) };
    (@presence optional($parse:expr)) => { Presence::Optional };
}

pub(super) use configuration;
