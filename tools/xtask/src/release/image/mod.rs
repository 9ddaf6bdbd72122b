//! The container image, as an archive that `docker load` and `podman load` take.
//!
//! - It is written without a container runtime: layers are archives, named by their hashes; `index.json` leads to them for
//!   OCI's readers, and `manifest.json` for older ones of Docker's.
//! - The lower layer has what the programs need: glibc of the machine that makes the image (`glibc`), and Mozilla's
//!   authorities, from a pinned Python package. There is no shell.
//! - The upper one has the executable, and the directory of the state, which belongs to the user that runs it.

mod glibc;

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Artefact, VERSION,
    architecture::Architecture,
    folder::{Folder, gzip},
};
use glibc::Glibc;

use crate::python;

/// Libraries that workerd and the released executable are linked with, beside the loader; all of one package. glibc
/// itself loads none beside them for names.
pub const LIBRARIES: [&str; 6] =
    ["libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "libresolv.so.2", "librt.so.1"];

/// Returns the image with `executable`, and the loader and the `libraries` that it needs.
///
/// # Errors
///
/// A library or the authorities are missing.
pub fn archive(architecture: Architecture, executable: &[u8], libraries: &[&str]) -> Result<Artefact> {
    let mut base = Folder::default()
        .file("etc/passwd", format!("edge:x:{USER}:{USER}::/state:/sbin/nologin\n"))
        .file("etc/group", format!("edge:x:{USER}:\n"))
        .file("etc/nsswitch.conf", "hosts: files dns\n")
        .file("etc/ssl/certs/ca-certificates.crt", authorities()?);
    let glibc = Glibc { architecture };
    for library in [glibc.loader()].iter().chain(libraries) {
        let (from, to) = glibc.library(library)?;
        let content = fs::read(&from).with_context(|| format!("can't read {}", from.display()))?;
        base = base.program(to.to_str().context("a library has no name")?.trim_start_matches('/'), content);
    }
    let licence = glibc.licence();
    let licence = fs::read(&licence).with_context(|| format!("can't read {}", licence.display()))?;
    let base = Layer::new(&base.file("usr/share/doc/libc6/copyright", licence))?;
    let program = Folder::default()
        .program(PROGRAM.trim_start_matches('/'), executable)
        .private_directory(STATE.trim_start_matches('/'), USER);
    let name = format!("matrixrtc-edge-{VERSION}-oci-{}.tar", architecture.oci_name());
    Ok(Artefact { name, content: image(architecture, &[base, Layer::new(&program)?])? })
}

/// A layer, compressed, with the hash of what it is uncompressed.
struct Layer {
    blob: Blob,
    diff_id: String,
}

impl Layer {
    fn new(folder: &Folder) -> Result<Self> {
        let tar = folder.tar("")?;
        Ok(Self { diff_id: format!("sha256:{:x}", Sha256::digest(&tar)), blob: Blob::new(gzip(&tar)?) })
    }
}

/// A content that is found by its hash.
struct Blob {
    sha256: String,
    content: Vec<u8>,
}

impl Blob {
    fn new(content: Vec<u8>) -> Self {
        Self { sha256: format!("{:x}", Sha256::digest(&content)), content }
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.sha256)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{}", self.sha256),
            "size": self.content.len(),
        })
    }
}

/// Returns the archive of the image with these layers, the lowest first.
fn image(architecture: Architecture, layers: &[Layer]) -> Result<Vec<u8>> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
    let config = Blob::new(serde_json::to_vec(&json!({
        "architecture": architecture.oci_name(),
        "os": "linux",
        "created": CREATED,
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": ["PATH=/usr/local/bin", "MATRIXRTC_EDGE_ADDR=0.0.0.0:8080", format!("STATE_DIRECTORY={STATE}")],
            "Entrypoint": [PROGRAM],
            "ExposedPorts": { "8080/tcp": {} },
            "Volumes": { (STATE): {} },
            "WorkingDir": "/",
            // The first start unpacks workerd.
            "Healthcheck": {
                "Test": ["CMD", PROGRAM, "healthcheck"],
                "Interval": 30 * SECOND, "Timeout": 10 * SECOND, "StartPeriod": 30 * SECOND, "Retries": 3,
            },
            "Labels": {
                "org.opencontainers.image.title": "matrixrtc-edge",
                "org.opencontainers.image.description": "MatrixRTC authorization service for LiveKit",
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                "org.opencontainers.image.version": VERSION,
            },
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": layers.iter().map(|_| json!({ "created": CREATED, "created_by": "cargo xtask release" })).collect::<Vec<_>>(),
    }))?);
    let manifest = Blob::new(serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG),
        "layers": layers.iter().map(|layer| layer.blob.descriptor(LAYER)).collect::<Vec<_>>(),
    }))?);
    let tag = format!("matrixrtc-edge:{VERSION}");
    let mut in_index = manifest.descriptor(MANIFEST);
    in_index["annotations"] = json!({ "io.containerd.image.name": format!("docker.io/library/{tag}"), "org.opencontainers.image.ref.name": VERSION });
    in_index["platform"] = json!({ "architecture": architecture.oci_name(), "os": "linux" });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [in_index],
    });
    let for_docker = json!([{
        "Config": config.path(),
        "RepoTags": [tag],
        "Layers": layers.iter().map(|layer| layer.blob.path()).collect::<Vec<_>>(),
    }]);
    let mut archive = Folder::default()
        .file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("index.json", serde_json::to_vec(&index)?)
        .file("manifest.json", serde_json::to_vec(&for_docker)?);
    for blob in layers.iter().map(|layer| &layer.blob).chain([&config, &manifest]) {
        archive = archive.file(&blob.path(), blob.content.clone());
    }
    archive.tar("")
}

/// Returns the certificates of the authorities that Mozilla trusts.
fn authorities() -> Result<Vec<u8>> {
    let place = python::environment("certifi", include_str!("requirements.txt"))?;
    let versions = fs::read_dir(place.join("lib")).context("the Python environment has no lib")?;
    let mut found = versions.filter_map(|version| Some(version.ok()?.path().join("site-packages/certifi/cacert.pem")));
    let path = found.find(|path| path.exists()).context("the package certifi has no certificates")?;
    fs::read(path).context("can't read the certificates")
}

/// Docker's manifest, whose JSON is OCI's: podman reads the health check of such an image only, since OCI's configuration has
/// none. Docker, containerd and skopeo take either.
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const PROGRAM: &str = "/usr/local/bin/matrixrtc-edge";
const STATE: &str = "/state";
const USER: u64 = 65532;
const CREATED: &str = "2026-01-01T00:00:00Z";
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        io::Read,
    };

    use flate2::read::GzDecoder;

    use super::*;

    fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(tar);
        let files = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().to_str().unwrap().to_owned(), content)
        });
        files.collect()
    }

    /// Instructions of the Dockerfile, which makes the same image in effect.
    struct Dockerfile(Vec<(String, String)>);

    impl Dockerfile {
        fn read() -> Self {
            let text = include_str!("../../../../standalone/container/Dockerfile").replace("\\\n", " ");
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let instruction = |line: &str| {
                let words: Vec<_> = line.split_whitespace().collect();
                (words[0].to_owned(), words[1..].join(" "))
            };
            Self(lines.map(instruction).collect())
        }

        /// Returns what follows the one instruction of this name.
        fn the(&self, name: &str) -> &str {
            let found: Vec<_> = self.0.iter().filter(|(of, _)| of == name).map(|(_, rest)| rest.as_str()).collect();
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            found[0]
        }
    }

    #[test]
    fn the_dockerfile_makes_an_image_of_the_same_configuration() {
        let files = files(&image(Architecture::HERE, &[]).unwrap());
        let json = |path: &str| -> Value { serde_json::from_slice(&files[path]).unwrap() };
        let config = &json(json("manifest.json")[0]["Config"].as_str().unwrap())["config"];
        let dockerfile = Dockerfile::read();
        let array = |text: &str| -> Value { serde_json::from_str(text).unwrap() };

        assert_eq!(config["User"], dockerfile.the("USER"));
        assert_eq!(config["Volumes"], json!({ (dockerfile.the("VOLUME")): {} }));
        assert_eq!(config["ExposedPorts"], json!({ (format!("{}/tcp", dockerfile.the("EXPOSE"))): {} }));
        assert_eq!(config["Entrypoint"], array(dockerfile.the("ENTRYPOINT")));
        let env = config["Env"].as_array().unwrap().iter().map(|variable| variable.as_str().unwrap());
        // Debian's image has a path of its own.
        let env: BTreeSet<_> = env.filter(|variable| !variable.starts_with("PATH=")).collect();
        assert_eq!(env, dockerfile.the("ENV").split(' ').collect());

        let (options, command) = dockerfile.the("HEALTHCHECK").split_once(" CMD ").unwrap();
        let options: BTreeMap<_, _> = options.split(' ').map(|option| option.split_once('=').unwrap()).collect();
        let health = &config["Healthcheck"];
        for (option, field) in [("--interval", "Interval"), ("--timeout", "Timeout"), ("--start-period", "StartPeriod")]
        {
            let seconds: u64 = options[option].strip_suffix('s').unwrap().parse().unwrap();
            assert_eq!(health[field], seconds * SECOND, "{option}");
        }
        // Docker's default.
        assert_eq!((options.len(), &health["Retries"]), (3, &json!(3)));
        let (words, expected) = (health["Test"].as_array().unwrap(), array(command));
        assert_eq!((&words[0], &words[1..]), (&json!("CMD"), expected.as_array().unwrap().as_slice()));
    }

    #[test]
    fn the_state_belongs_to_the_same_user_in_either_image() {
        let directory = format!("install --directory --owner {USER} --group {USER} --mode 700 {STATE}");

        assert!(Dockerfile::read().the("RUN").ends_with(&directory), "no {directory}");
    }

    #[test]
    fn compose_keeps_the_address_of_the_image() {
        let dockerfile = Dockerfile::read();
        let mut variables = dockerfile.the("ENV").split(' ');

        let addr = variables.find_map(|variable| variable.strip_prefix("MATRIXRTC_EDGE_ADDR=")).unwrap();

        let compose = include_str!("../../../../standalone/container/compose.yaml");
        assert!(compose.contains(&format!("    environment:\n      MATRIXRTC_EDGE_ADDR: {addr}\n")), "{addr}");
    }

    #[test]
    fn both_ways_lead_to_the_same_layers() {
        let layers =
            [("a", "1"), ("b", "2")].map(|(path, text)| Layer::new(&Folder::default().file(path, text)).unwrap());
        let files = files(&image(Architecture::Aarch64, &layers).unwrap());
        let json = |path: &str| -> Value { serde_json::from_slice(&files[path]).unwrap() };
        let blob = |descriptor: &Value| {
            let sha256 = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let content = &files[&format!("blobs/sha256/{sha256}")];
            assert_eq!(format!("{:x}", Sha256::digest(content)), sha256);
            assert_eq!(descriptor["size"], content.len());
            content.clone()
        };

        assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
        let index = json("index.json");
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        // With OCI's types, podman leaves the health check out.
        for of_docker in [&manifest["mediaType"], &index["manifests"][0]["mediaType"]] {
            assert_eq!(of_docker, "application/vnd.docker.distribution.manifest.v2+json");
        }
        assert_eq!(config["config"]["Healthcheck"]["Test"], json!(["CMD", PROGRAM, "healthcheck"]));
        let of_docker = &json("manifest.json")[0];
        assert_eq!(files[of_docker["Config"].as_str().unwrap()], blob(&manifest["config"]));
        for n in 0..2 {
            let layer = blob(&manifest["layers"][n]);
            assert_eq!(files[of_docker["Layers"][n].as_str().unwrap()], layer);
            let mut tar = Vec::new();
            GzDecoder::new(layer.as_slice()).read_to_end(&mut tar).unwrap();
            assert_eq!(config["rootfs"]["diff_ids"][n], format!("sha256:{:x}", Sha256::digest(&tar)));
        }
        assert_ne!(config["config"]["User"], "0:0");
        assert_eq!(
            (&config["architecture"], &index["manifests"][0]["platform"]["architecture"]),
            (&"arm64".into(), &"arm64".into())
        );
    }
}
