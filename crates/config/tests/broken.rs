//! Every broken file gives exactly the report beside it. `UPDATE_GOLDEN=1` writes the reports anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};

use bartizan_config::{Environment, Severity, checks, load, render};

fn files() -> Vec<PathBuf> {
    let folder = Path::new("tests/broken");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    files
}

fn report(file: &Path) -> bartizan_config::Report {
    let mut loaded = load(file, &Environment::default(), &[]).unwrap();
    let findings = checks::serve(&loaded.file);
    loaded.add(findings, Severity::Error);
    loaded.report()
}

#[test]
fn u4_broken_files_give_their_reports() {
    let update = std::env::vars_os().any(|(name, _)| name == "UPDATE_GOLDEN");
    let mut wrong = Vec::new();
    let files = files();
    assert!(files.len() >= 40, "only {} broken files", files.len());
    for file in files {
        let report = report(&file);
        assert!(report.has_errors(), "{} has no error", file.display());
        let text = render::report(&report, render::Format::Text, false);
        let golden = file.with_extension("txt");
        if update {
            std::fs::write(&golden, &text).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn u4_every_problem_of_a_parsed_file_has_a_place_or_names_a_setting() {
    for file in files() {
        for problem in report(&file).problems {
            let placed = problem.place.as_ref().is_some_and(|place| place.line >= 1 && place.column >= 1);
            assert!(placed || problem.code == "missing_setting", "{}: {problem:?}", file.display());
            assert!(!problem.message.ends_with('.'), "{}", problem.message);
        }
    }
}

#[test]
fn u4_all_formats_hold_every_problem() {
    let report = report(Path::new("tests/broken/39-many-at-once.yaml"));
    assert!(report.problems.len() >= 8);
    let json: serde_json::Value = serde_json::from_str(&render::report(&report, render::Format::Json, false)).unwrap();
    assert_eq!(json["problems"].as_array().unwrap().len(), report.problems.len());
    assert_eq!(json["errors"], report.problems.len());
    assert!(json["problems"][0]["line"].is_u64() && json["problems"][0]["file"].is_string());
    let github = render::report(&report, render::Format::Github, false);
    assert_eq!(github.lines().count(), report.problems.len());
    assert!(github.lines().all(|line| line.starts_with("::error file=tests/broken/39-many-at-once.yaml,line=")));
    let sarif: serde_json::Value =
        serde_json::from_str(&render::report(&report, render::Format::Sarif, false)).unwrap();
    let results = sarif.pointer("/runs/0/results").unwrap().as_array().unwrap();
    assert_eq!((sarif["version"].as_str(), results.len()), (Some("2.1.0"), report.problems.len()));
    assert!(results.iter().all(|result| {
        result.pointer("/locations/0/physicalLocation/region/startLine").is_some_and(serde_json::Value::is_u64)
    }));
}

#[test]
fn u4_no_report_shows_a_secret() {
    let report = report(Path::new("tests/broken/42-secret-in-snippet.yaml"));
    for format in [render::Format::Text, render::Format::Json, render::Format::Github, render::Format::Sarif] {
        assert!(!render::report(&report, format, true).contains("hunter2"));
    }
}
