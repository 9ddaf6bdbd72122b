//! The macro that turns the table of variables into everything that depends on it.
//!
//! How it works:
//! - an entry is `"NAME" => field: Type = presence(default, parser);` under one line of help;
//! - `presence` is the method of [`Reader`](super::reader::Reader) that reads the variable: `required`, `default` or
//!   `optional`;
//! - a group lists variables that only make sense together, and is read by a method of its own;
//! - from these come the struct `Config`, the function that reads it, and `TABLE`, the same as data.

/// One variable of the configuration, as help and documentation describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The name in the environment, and of the binding.
    pub name: &'static str,
    /// Meaning of a missing value.
    pub presence: Presence,
    /// One line of help.
    pub help: &'static str,
}

/// Meaning of a missing value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The deployment is misconfigured.
    Required,
    /// This text takes its place, parsed like any other.
    Default(&'static str),
    /// The feature is off, or the platform chooses.
    Optional,
    /// Depends on the other variables of its group.
    Grouped,
}

/// Turns a table of variables into [`Config`](super::Config), its reader, and the table as data.
macro_rules! configuration {
    (
        $($(#[doc = $help:literal])+ $name:literal => $field:ident: $type:ty = $presence:ident($($argument:expr),+);)*
        $(group $group:ident: $group_type:ty { $($(#[doc = $member_help:literal])+ $member:literal;)+ })*
    ) => {
        /// Everything that an operator can configure. The table in the source of this module describes each variable.
        #[derive(Clone, Debug)]
        pub struct Config {
            $(#[doc = concat!("`", $name, "`:" $(, $help)+)] pub $field: $type,)*
            $(#[doc = concat!("The group" $(, " `", $member, "`")+, ".")] pub $group: $group_type,)*
        }

        impl Config {
            /// Reads every variable before it gives up, so that all problems are reported together.
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
