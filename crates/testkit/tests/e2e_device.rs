//! Country and device of a client decide (A3): from a file, from a trusted proxy, from a
//! client certificate; never from a client's own word.

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use bartizan_testkit::http::Http;
use bartizan_testkit::mmdb;
use bartizan_testkit::process::{Output, run_command};
use bartizan_testkit::product::{Config, Product};
use bartizan_testkit::tools::{self, Part};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

fn portal(id: &str, need: &Value) -> Value {
    let rule =
        json!({"name": "need", "action": "service_auth", "include": [{"everyone": true}], "require": [need.clone()]});
    json!({"id": id, "name": id, "policies": [rule]})
}

fn config(folder: &Path, proxies: &[&str]) -> Result<Config> {
    let geo = folder.join("geo.mmdb");
    std::fs::write(&geo, mmdb::countries(&[("203.0.113.0/24", "DE")]))?;
    Ok(Config::new()
        .set("geo", json!({"mmdb": geo}))
        .set("trusted_proxies", json!(proxies))
        .set("country_header", json!("CF-IPCountry"))
        .set("device_header", json!("X-Device"))
        .set(
            "portals",
            json!([portal("inland", &json!({"country": ["DE"]})), portal("laptops", &json!({"device": ["managed"]}))]),
        ))
}

fn hello() -> String {
    let params =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string()
}

async fn status(product: &Product, portal: &str, headers: &[(&str, &str)]) -> Result<u16> {
    let bearer = format!("Bearer {}", product.token("agent"));
    let mut all = vec![
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    all.extend(headers);
    Ok(Http::new().send(Method::POST, &product.portal_url(portal), &all, hello()).await?.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_country_and_device_from_a_trusted_proxy_only() -> Result<()> {
    if !tools::ready("a3_country_and_device_from_a_trusted_proxy_only", &[Part::Product]) {
        return Ok(());
    }
    let folder = TempDir::new()?;
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("inland", &[("x-forwarded-for", "203.0.113.5")]),
        ("inland", &[("x-forwarded-for", "198.51.100.1"), ("cf-ipcountry", "DE")]),
        ("inland", &[("x-forwarded-for", "198.51.100.1")]),
        ("laptops", &[("x-device", "managed")]),
        ("laptops", &[("x-device", "mine")]),
    ];
    let behind = Product::serve(config(folder.path(), &["127.0.0.0/8"])?).await?;
    // The same words from somebody who is no proxy: with the list above they would be believed.
    let open = Product::serve(config(folder.path(), &["10.0.0.0/8"])?).await?;
    for ((portal, headers), good) in cases.iter().zip([true, true, false, true, false]) {
        let seen = status(&behind, portal, headers).await?;
        assert_eq!(seen, if good { 200 } else { 404 }, "{portal} {headers:?}");
        assert_eq!(status(&open, portal, headers).await?, 404, "not a proxy: {portal} {headers:?}");
    }
    Ok(())
}

async fn openssl(folder: &Path, script: &str) -> Result<()> {
    let made =
        run_command(Command::new("sh").current_dir(folder).args(["-ec", script]), Duration::from_secs(30)).await?;
    ensure!(made.code == Some(0), "{}", made.stderr);
    Ok(())
}

/// An authority `NAME-ca` and a device certificate `NAME` for the device `managed`.
async fn device(folder: &Path, name: &str) -> Result<()> {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        folder,
        &format!(
            "openssl req -x509 {key} -days 2 -subj /CN={name}-ca -keyout {name}-ca.key -out {name}-ca.pem
             openssl req -new {key} -subj /CN=managed -keyout {name}.key -out {name}.csr
             printf 'subjectAltName=DNS:managed\\nextendedKeyUsage=clientAuth\\n' > {name}.ext
             openssl x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial -days 2 \
               -extfile {name}.ext -out {name}.pem"
        ),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_a_client_certificate_is_a_device() -> Result<()> {
    if !tools::ready("a3_a_client_certificate_is_a_device", &[Part::Product]) {
        return Ok(());
    }
    let folder = TempDir::new()?;
    device(folder.path(), "known").await?;
    device(folder.path(), "foreign").await?;
    let config = config(folder.path(), &["10.0.0.0/8"])?
        .set("tls", json!("internal"))
        .set("client_ca", json!(folder.path().join("known-ca.pem")));
    let product = Product::serve(config).await?;
    std::fs::write(folder.path().join("ca.pem"), product.command(&["ca"]).await?.stdout)?;
    let curl = async |more: &[&str]| -> Result<Output> {
        let mut command = Command::new("curl");
        command.current_dir(folder.path()).args(["-sS", "-m", "10", "--cacert", "ca.pem", "-o", "/dev/null"]);
        command.args(["-w", "%{http_code}", "-H", "content-type: application/json", "-d", &hello()]);
        command.args(["-H", &format!("authorization: Bearer {}", product.token("agent"))]);
        command.args(["-H", "accept: application/json, text/event-stream"]).args(more);
        run_command(command.arg(product.portal_url("laptops")), Duration::from_secs(20)).await
    };
    let known = curl(&["--cert", "known.pem", "--key", "known.key"]).await?;
    assert_eq!(known.stdout, "200", "{}", known.stderr);
    assert_eq!(curl(&[]).await?.stdout, "404", "without a certificate there is no device");
    let said = curl(&["-H", "x-device: managed", "-H", "bartizan-device: managed"]).await?;
    assert_eq!(said.stdout, "404", "nor by saying so");
    let foreign = curl(&["--cert", "foreign.pem", "--key", "foreign.key"]).await?;
    assert!(foreign.code != Some(0) && foreign.stdout == "000", "{foreign:?}");
    Ok(())
}
