//! TLS of the public listener (O8) with programs that other people wrote.

#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::process::{Output, run_command};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::scripts::{RealClient, drive_with};
use bartizan_testkit::tools::{self, Part};
use bartizan_testkit::wait;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

async fn run(program: &str, args: &[&str]) -> Result<Output> {
    run_command(Command::new(program).args(args), Duration::from_secs(30)).await
}

/// A certificate for 127.0.0.1 that is its own authority.
async fn certificate(folder: &Path, days: &str) -> Result<()> {
    let (cert, key) = (folder.join("new.pem").display().to_string(), folder.join("new.key").display().to_string());
    let mut args = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    args.extend(["-days", days, "-subj", "/CN=gw", "-addext", "subjectAltName=IP:127.0.0.1,DNS:gw.example"]);
    args.extend(["-keyout", &key, "-out", &cert]);
    let made = run("openssl", &args).await?;
    ensure!(made.code == Some(0), "{}", made.stderr);
    std::fs::rename(folder.join("new.key"), folder.join("key.pem"))?;
    std::fs::rename(folder.join("new.pem"), folder.join("cert.pem"))?;
    Ok(())
}

async fn fingerprint(port: u16) -> Result<String> {
    let script = format!(
        "openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256"
    );
    Ok(run("sh", &["-c", &script]).await?.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_the_own_authority_and_real_clients() -> Result<()> {
    if !tools::ready("o8_the_own_authority_and_real_clients", &[Part::Product, Part::Npm, Part::Mcp]) {
        return Ok(());
    }
    let upstream = Fixture::start(Options::of(Era::Modern)).await?;
    let config =
        Config::new().server(http_server("fx", &upstream.url(), &upstream.tool_names())).set("tls", json!("internal"));
    let product = Product::serve(config).await?;
    let printed = product.command(&["ca"]).await?;
    ensure!(printed.code == Some(0), "{}", printed.stderr);
    let folder = TempDir::new()?;
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &printed.stdout)?;
    let ca = ca.display().to_string();
    let url = product.url();
    let curl = async |args: &[&str]| {
        run("curl", &[&["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_version} %{http_code}"], args].concat())
            .await
    };
    let good = curl(&["--cacert", &ca, "--http2", &url]).await?;
    assert_eq!((good.code, good.stdout.as_str()), (Some(0), "2 401"), "{}", good.stderr);
    let one = curl(&["--cacert", &ca, "--http1.1", &url]).await?;
    assert_eq!(one.stdout, "1.1 401");
    let stranger = curl(&[&url]).await?;
    assert!(stranger.code != Some(0), "who does not trust the authority is not served");
    let plain = curl(&[&url.replace("https", "http")]).await?;
    assert!(plain.code != Some(0), "plain HTTP is not spoken here: {plain:?}");
    // A name that nobody knows in SNI is not refused: what the client asks for is in Host.
    let named = run("sh", &["-c", &format!("openssl s_client -connect 127.0.0.1:{} -servername nobody.example -CAfile {ca} -verify_ip 127.0.0.1 </dev/null", product.port())]).await?;
    assert!(named.stdout.contains("Verify return code: 0"), "{}", named.stdout);
    for (flag, good) in [("-tls1_3", true), ("-tls1_2", true), ("-tls1_1", false), ("-tls1", false)] {
        let args = [
            "s_client",
            "-connect",
            &format!("127.0.0.1:{}", product.port()),
            flag,
            "-cipher",
            "ALL:@SECLEVEL=0",
            "-CAfile",
            &ca,
        ];
        let script = format!("openssl {} </dev/null", args.map(|arg| format!("'{arg}'")).join(" "));
        let shaken = run("sh", &["-c", &script]).await?;
        assert_eq!(shaken.code == Some(0), good, "{flag}: {}", shaken.stderr);
    }
    let token = Some(product.token("agent"));
    let steps = json!([{"list": "tools"}, {"call": "fx_test_simple_text", "arguments": {}}]);
    for (client, env) in [(RealClient::TsV2, "NODE_EXTRA_CA_CERTS"), (RealClient::PythonMcp, "SSL_CERT_FILE")] {
        let report = drive_with(client, &url, token, "", steps.clone(), &[(env.to_owned(), ca.clone())]).await?;
        assert!(report.said("fx_test_simple_text").starts_with("This is a simple text"), "{client:?}: {report:?}");
    }
    assert_eq!(product.leaks("PRIVATE KEY")?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_changed_files_are_taken_while_connections_go_on() -> Result<()> {
    if !tools::ready("o8_changed_files_are_taken_while_connections_go_on", &[Part::Product]) {
        return Ok(());
    }
    let folder = TempDir::new()?;
    certificate(folder.path(), "10").await?;
    let files = json!({"files": {"cert": folder.path().join("cert.pem"), "key": folder.path().join("key.pem")}});
    let product = Product::serve(Config::new().set("tls", files)).await?;
    let first = fingerprint(product.port()).await?;
    assert!(first.to_lowercase().contains("fingerprint"), "{first}");
    // What cannot be used is said and does not harm.
    let key = std::fs::read(folder.path().join("key.pem"))?;
    std::fs::write(folder.path().join("key.pem"), "no key")?;
    wait::until("the refusal is on record", Duration::from_secs(20), async || {
        product.audit().is_ok_and(|all| {
            all.iter().any(|event| event.to_string().contains("refused:") && event.to_string().contains("tls/reload"))
        })
    })
    .await?;
    let status = product.command(&["status", "--json"]).await?;
    assert!(status.stdout.contains("no private key"), "{}", status.stdout);
    assert_eq!(fingerprint(product.port()).await?, first);
    std::fs::write(folder.path().join("key.pem"), key)?;
    certificate(folder.path(), "20").await?;
    let mut now = first.clone();
    wait::until("the new certificate is shown", Duration::from_secs(20), async || {
        now = fingerprint(product.port()).await.unwrap_or_default();
        now != first && now.to_lowercase().contains("fingerprint")
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o8_a_slow_handshake_is_ended() -> Result<()> {
    if !tools::ready("o8_a_slow_handshake_is_ended", &[Part::Product]) {
        return Ok(());
    }
    let config = Config::new().set("tls", json!("internal")).set("limits", json!({"client_read_ms": 1_000}));
    let product = Product::serve(config).await?;
    let mut silent = TcpStream::connect(("127.0.0.1", product.port())).await?;
    let mut half = TcpStream::connect(("127.0.0.1", product.port())).await?;
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).await?;
    for stream in [&mut silent, &mut half] {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "still open");
    }
    assert!(fingerprint(product.port()).await?.to_lowercase().contains("fingerprint"), "others are served");
    Ok(())
}
