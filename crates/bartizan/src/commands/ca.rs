//! `bartizan ca`: the certificate of the installation's authority (O8).

use std::path::Path;

use bartizan_vault::{KeyRing, Vault};
use serde_json::json;

use crate::installation::{Places, clock, make_private_folder, read_without_secrets};
use crate::output::{Done, Failure, OK, Out};
use crate::transport::authority_pem;

pub(crate) async fn run(config: &Path, out: Out) -> Done {
    let loaded = read_without_secrets(config)?;
    let Some(source) = loaded.file.key.clone() else {
        return Err(Failure::refused("missing_setting", "key is required"));
    };
    let keys = KeyRing::from_source(&source).map_err(|error| Failure::refused("bad_key", error.to_string()))?;
    let vault = Vault::new(keys).map_err(|error| Failure::cannot_run("bad_key", error.to_string()))?;
    let places = Places::of(&loaded)?;
    make_private_folder(&places.data_dir)?;
    let pem = authority_pem(places.open().await?, vault, clock()).await?;
    out.either(&json!({"certificate": pem}), || pem.clone());
    Ok(OK)
}
