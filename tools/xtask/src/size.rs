//! `cargo xtask size`: the size of the deployable build, by section, crate and function.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write,
    ops::Range,
};

use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};
use wasmparser::{KnownCustom, Name, Parser, Payload, TypeRef};

use crate::{build::Build, workspace};

/// Builds, and prints the sizes and the biggest contributors to standard output.
///
/// # Errors
///
/// The build fails, or the worker or its page is over its budget.
pub fn run() -> Result<()> {
    let build = Build::make(&workspace::root()?)?;
    let wasm = fs::read(&build.wasm).context("can't read the WebAssembly module")?;
    let script = fs::read(&build.script).context("can't read the JavaScript module")?;
    let (wasm_gzipped, script_gzipped) = (gzipped(&wasm)?, gzipped(&script)?);
    let total = wasm_gzipped + script_gzipped;

    println!("{:<12}{:>10}{:>10}", "", "bytes", "gzipped");
    println!("{:<12}{:>10}{wasm_gzipped:>10}", "WebAssembly", wasm.len());
    println!("{:<12}{:>10}{script_gzipped:>10}", "JavaScript", script.len());
    println!("{:<12}{:>10}{total:>10} of {BUDGET}, {} %", "both", wasm.len() + script.len(), total * 100 / BUDGET);

    let page = gzipped(&fs::read(&build.page).context("can't read the page")?)?;
    let livekit_client = gzipped(&fs::read(&build.livekit_client).context("can't read LiveKit's client")?)?;
    println!("\nBeside it, {page} bytes gzipped of {PAGE_BUDGET} for the page, and {livekit_client} for its test call");

    let named = fs::read(&build.named).context("can't read the WebAssembly module with names")?;
    let contents = Contents::of(&named)?;
    print_biggest("WebAssembly, by section", &contents.sections, usize::MAX);
    print_biggest("Code, by crate", &contents.by_crate(), CRATES_SHOWN);
    print_biggest("Code, by function", &contents.functions, FUNCTIONS_SHOWN);

    if total > BUDGET {
        bail!("the build is {} bytes over its budget of {BUDGET} bytes, gzipped", total - BUDGET);
    }
    if page > PAGE_BUDGET {
        bail!("the page is {} bytes over its budget of {PAGE_BUDGET} bytes, gzipped", page - PAGE_BUDGET);
    }
    Ok(())
}

/// Where a WebAssembly module's bytes are.
struct Contents {
    sections: BTreeMap<String, usize>,
    functions: BTreeMap<String, usize>,
}

impl Contents {
    fn of(wasm: &[u8]) -> Result<Self> {
        let mut sections = BTreeMap::new();
        let mut names = HashMap::new();
        let mut bodies = Vec::new();
        let mut imported = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.context("the WebAssembly module is damaged")?;
            let section = match &payload {
                Payload::CodeSectionStart { size, .. } => Some(("functions", length(0..u64::from(*size)))),
                Payload::DataSection(data) => Some(("data", length(data.range()))),
                Payload::CustomSection(custom) => Some((custom.name(), custom.data().len())),
                _ => None,
            };
            if let Some((section, size)) = section {
                *sections.entry(section.to_owned()).or_default() += size;
            }
            match payload {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::CodeSectionEntry(body) => bodies.push(length(body.range())),
                Payload::CustomSection(custom) => {
                    if let KnownCustom::Name(subsections) = custom.as_known() {
                        for subsection in subsections {
                            if let Name::Function(functions) = subsection? {
                                for function in functions {
                                    let function = function?;
                                    names.insert(function.index, function.name.to_owned());
                                }
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        let mut functions = BTreeMap::new();
        for (index, size) in (imported..).zip(bodies) {
            let name = names.remove(&index).unwrap_or_else(|| format!("function {index}"));
            *functions.entry(name).or_default() += size;
        }
        Ok(Self { sections, functions })
    }

    fn by_crate(&self) -> BTreeMap<String, usize> {
        let mut crates = BTreeMap::new();
        for (function, size) in &self.functions {
            *crates.entry(crate_of(function).to_owned()).or_default() += size;
        }
        crates
    }
}

/// The crate of a demangled function name: the one of the implementing type, or of the module.
fn crate_of(function: &str) -> &str {
    let path = function.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_');
    let path = path.strip_prefix("dyn ").or_else(|| path.strip_prefix("mut ")).unwrap_or(path);
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    match rest.chars().next() {
        Some(':' | '[') => name,
        _ => "(none)",
    }
}

fn length(range: Range<u64>) -> usize {
    // Of a module that is in memory.
    (range.end - range.start) as usize
}

fn gzipped(bytes: &[u8]) -> Result<usize> {
    // The level that wrangler reports sizes with.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len())
}

fn print_biggest(title: &str, sizes: &BTreeMap<String, usize>, at_most: usize) {
    println!("\n{title:<width$}{:>10}", "bytes", width = NAME_WIDTH + 2);
    let mut sizes: Vec<_> = sizes.iter().collect();
    sizes.sort_by_key(|(_, size)| std::cmp::Reverse(**size));
    for (name, size) in sizes.into_iter().take(at_most) {
        let name: String = name.chars().take(NAME_WIDTH).collect();
        println!("  {name:<NAME_WIDTH$}{size:>10}");
    }
}

/// Bytes, gzipped, WebAssembly and JavaScript together. The bounds of one room and their fairness took 22 kB
/// of it; membership at all endpoints, leaves that are tried before they are accepted, and discovery that heals 14 kB;
/// page and status 14 kB; rates that rooms share, and deadlines of all that waits for an object, 4 kB.
const BUDGET: usize = 505_000;
/// Bytes, gzipped, that a browser loads before a test call.
const PAGE_BUDGET: usize = 40_000;
const CRATES_SHOWN: usize = 20;
const FUNCTIONS_SHOWN: usize = 20;
const NAME_WIDTH: usize = 90;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_counted_for_their_crate() {
        for (function, expected) in [
            ("worker::init::init::{{closure}}::hfa14339a5d2799de", "worker"),
            ("std[a543996e6e7dbf1e]::panicking::panic_with_hook", "std"),
            ("<serde_json::de::Deserializer<R> as serde::de::Deserializer>::deserialize_map", "serde_json"),
            ("<&mut serde_json::ser::Serializer<W> as serde::ser::Serializer>::collect_str", "serde_json"),
            ("<dyn core::any::Any>::is", "core"),
            ("__wbindgen_malloc", "(none)"),
            ("memcpy", "(none)"),
        ] {
            assert_eq!(crate_of(function), expected, "{function}");
        }
    }

    #[test]
    fn a_modules_bytes_are_found_by_section_and_function() {
        // One imported function, then one of its own, `own::function`, of 2 bytes: no locals, end.
        let wasm = [
            b"\0asm\x01\0\0\0".as_slice(),
            b"\x01\x04\x01\x60\0\0",
            b"\x02\x07\x01\x01m\x01f\0\0",
            b"\x03\x02\x01\0",
            b"\x0a\x04\x01\x02\0\x0b",
            b"\0\x17\x04name\x01\x10\x01\x01\x0down::function",
        ]
        .concat();

        let contents = Contents::of(&wasm).unwrap();

        assert_eq!(contents.functions, BTreeMap::from([("own::function".to_owned(), 2)]));
        assert_eq!(contents.by_crate(), BTreeMap::from([("own".to_owned(), 2)]));
        assert_eq!(contents.sections["functions"], 3);
    }

    #[test]
    fn a_damaged_module_is_an_error() {
        assert!(Contents::of(b"\0asm\x01\0\0\0\x0a\xff").is_err());
    }
}
