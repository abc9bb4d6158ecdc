//! Metrics as OTLP/HTTP JSON (`/v1/metrics`), made from the exposition text of the
//! process, so that a collector sees what a scrape of `/metrics` sees, and nothing else.

use serde_json::{Value, json};

use super::attribute;

/// AGGREGATION_TEMPORALITY_CUMULATIVE
const CUMULATIVE: u8 = 2;

/// Who reports, since when and when. Times are milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'a> {
    /// `service.version`.
    pub version: &'a str,
    /// `service.instance.id`.
    pub instance: &'a str,
    /// Start of the process: what counters count from.
    pub started_ms: i64,
    /// Now.
    pub now_ms: i64,
}

/// One export request body for an OpenMetrics text as [`crate::Metrics::render`] writes it.
/// Counters and histograms are cumulative. A family keeps its name without the suffix
/// `_total`, which collectors add again. Lines that are not understood are left out.
pub fn encode(reporter: &Reporter<'_>, text: &str) -> Vec<u8> {
    let nanos = |ms: i64| (u128::try_from(ms).unwrap_or(0) * 1_000_000).to_string();
    let (start, now) = (nanos(reporter.started_ms), nanos(reporter.now_ms));
    let metrics: Vec<Value> = families(text).iter().filter_map(|family| family.encode(&start, &now)).collect();
    let body = json!({"resourceMetrics": [{
        "resource": {"attributes": [
            attribute("service.name", "bartizan"),
            attribute("service.version", reporter.version),
            attribute("service.instance.id", reporter.instance),
        ]},
        "scopeMetrics": [{"scope": {"name": "bartizan"}, "metrics": metrics}],
    }]});
    body.to_string().into_bytes()
}

#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    unit: &'a str,
    samples: Vec<Sample<'a>>,
}

struct Sample<'a> {
    /// What follows the family's name: `_total`, `_bucket`, nothing.
    suffix: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
}

fn families(text: &str) -> Vec<Family<'_>> {
    let mut found: Vec<Family<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some(what), Some(name), Some(value)) = (words.next(), words.next(), words.next()) else { continue };
            if found.last().is_none_or(|family| family.name != name) {
                found.push(Family { name, ..Family::default() });
            }
            let Some(family) = found.last_mut() else { continue };
            match what {
                "HELP" => family.help = value.trim_end_matches('.'),
                "TYPE" => family.kind = value,
                "UNIT" => family.unit = value,
                _ => {}
            }
        } else if let Some(family) = found.last_mut()
            && let Some(sample) = line.strip_prefix(family.name).and_then(sample)
        {
            // The text has the samples of a family below its comments.
            family.samples.push(sample);
        }
    }
    found
}

/// A line without the family's name: `_total{a="b"} 3`.
fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (suffix, mut rest) = line.split_at_checked(end)?;
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((key.trim_start_matches(','), value));
            rest = after;
        }
        rest = rest.strip_prefix('}')?;
    }
    Some(Sample { suffix, labels, value: rest.split_whitespace().next()? })
}

/// The text up to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

impl Family<'_> {
    fn encode(&self, start: &str, now: &str) -> Option<Value> {
        let (member, points) = match self.kind {
            "counter" => ("sum", self.numbers("_total", Some(start), now)),
            "gauge" => ("gauge", self.numbers("", None, now)),
            "histogram" => ("histogram", self.histograms(start, now)),
            _ => return None,
        };
        if points.is_empty() {
            return None;
        }
        let mut data = json!({"dataPoints": points});
        if let Some(data) = data.as_object_mut() {
            if member != "gauge" {
                data.insert("aggregationTemporality".to_owned(), CUMULATIVE.into());
            }
            if member == "sum" {
                data.insert("isMonotonic".to_owned(), true.into());
            }
        }
        // UCUM, as the conventions want it.
        let unit = if self.unit == "seconds" { "s" } else { self.unit };
        Some(json!({"name": self.name, "description": self.help, "unit": unit, member: data}))
    }

    fn numbers(&self, suffix: &str, start: Option<&str>, now: &str) -> Vec<Value> {
        let point = |sample: &Sample<'_>| {
            let mut point = json!({"attributes": attributes(&sample.labels), "timeUnixNano": now});
            let members = point.as_object_mut()?;
            if let Some(start) = start {
                members.insert("startTimeUnixNano".to_owned(), start.into());
            }
            // 64-bit integers are strings in the JSON mapping.
            match sample.value.parse::<i64>() {
                Ok(whole) => members.insert("asInt".to_owned(), whole.to_string().into()),
                Err(_) => members.insert("asDouble".to_owned(), sample.value.parse::<f64>().ok()?.into()),
            };
            Some(point)
        };
        self.samples.iter().filter(|sample| sample.suffix == suffix).filter_map(point).collect()
    }

    fn histograms(&self, start: &str, now: &str) -> Vec<Value> {
        let counts = self.samples.iter().filter(|sample| sample.suffix == "_count");
        counts.filter_map(|count| self.histogram(count, start, now)).collect()
    }

    fn histogram(&self, count: &Sample<'_>, start: &str, now: &str) -> Option<Value> {
        let of = |sample: &&Sample<'_>| sample.labels.iter().filter(|(key, _)| *key != "le").eq(&count.labels);
        let sum = self.samples.iter().filter(of).find(|sample| sample.suffix == "_sum")?;
        let (mut bounds, mut counts, mut before) = (Vec::new(), Vec::new(), 0_u64);
        for bucket in self.samples.iter().filter(of).filter(|sample| sample.suffix == "_bucket") {
            let (_, le) = bucket.labels.iter().find(|(key, _)| *key == "le")?;
            // The text counts all below a bound, OTLP those between two.
            let below = bucket.value.parse::<u64>().ok()?;
            counts.push(below.checked_sub(before)?.to_string());
            before = below;
            if le != "+Inf" {
                bounds.push(le.parse::<f64>().ok()?);
            }
        }
        Some(json!({
            "attributes": attributes(&count.labels),
            "startTimeUnixNano": start,
            "timeUnixNano": now,
            "count": count.value,
            "sum": sum.value.parse::<f64>().ok()?,
            "bucketCounts": counts,
            "explicitBounds": bounds,
        }))
    }
}

fn attributes(labels: &[(&str, String)]) -> Vec<Value> {
    labels.iter().map(|(key, value)| attribute(key, value)).collect()
}

#[cfg(test)]
mod tests {
    use bartizan_model::ReasonCode;

    use super::*;
    use crate::Metrics;

    const REPORTER: Reporter<'_> = Reporter { version: "1", instance: "node", started_ms: 1_000, now_ms: 61_000 };

    fn exported(text: &str) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&encode(&REPORTER, text)).unwrap();
        let names: Vec<&Value> = body["resourceMetrics"][0]["resource"]["attributes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| &a["key"])
            .collect();
        assert_eq!(names, ["service.name", "service.version", "service.instance.id"]);
        body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap().clone()
    }

    fn named<'a>(metrics: &'a [Value], name: &str) -> &'a Value {
        metrics.iter().find(|metric| metric["name"] == name).unwrap_or_else(|| panic!("{name} in {metrics:#?}"))
    }

    #[test]
    fn l7_otlp_has_the_names_of_the_protocol() {
        let metrics = Metrics::new();
        metrics.call(&"git".into(), "ok", 1_500, 900);
        metrics.call(&"git".into(), "ok", 3_000_000_000, 900);
        metrics.refusal(ReasonCode::PolicyDenied);
        metrics.sessions(-2);
        let found = exported(&metrics.render());
        let calls = named(&found, "bartizan_tool_call");
        assert_eq!((&calls["sum"]["isMonotonic"], &calls["sum"]["aggregationTemporality"]), (&json!(true), &json!(2)));
        assert_eq!(
            calls["sum"]["dataPoints"],
            json!([{
                "attributes": [
                    {"key": "server", "value": {"stringValue": "git"}},
                    {"key": "outcome", "value": {"stringValue": "ok"}},
                ],
                "startTimeUnixNano": "1000000000",
                "timeUnixNano": "61000000000",
                "asInt": "2",
            }])
        );
        let sessions = &named(&found, "bartizan_sessions")["gauge"];
        assert_eq!(sessions["dataPoints"][0]["asInt"], "-2");
        assert!(sessions.get("aggregationTemporality").is_none());
        let duration = named(&found, "bartizan_call_duration_seconds");
        assert_eq!(duration["unit"], "s");
        let point = &duration["histogram"]["dataPoints"][0];
        assert_eq!((&point["count"], &point["sum"]), (&json!("2"), &json!(3_000.001_5)));
        let counts: Vec<u64> =
            point["bucketCounts"].as_array().unwrap().iter().map(|n| n.as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(counts, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(point["explicitBounds"].as_array().unwrap().len(), 12);
        // Families without a sample are left out.
        assert!(found.iter().all(|metric| metric["name"] != "bartizan_mcp_request"));
    }

    #[test]
    fn l7_labels_are_unescaped_and_broken_lines_left_out() {
        let text = "# HELP a_b Text.\n# TYPE a_b counter\na_b_total{x=\"q\\\"\\\\\\n,}\",y=\"\"} 1\na_b_total{x=\"open} 2\n\
                    a_b_total 1.5\nother 3\na_b_total{x=\"z\"} many\n# TYPE g gauge\ng NaN\n# TYPE i info\ni_info 1\n# EOF\n";
        let found = exported(text);
        let points = named(&found, "a_b")["sum"]["dataPoints"].as_array().unwrap();
        assert_eq!(points.len(), 2);
        assert_eq!(points[0]["attributes"][0]["value"]["stringValue"], "q\"\\\n,}");
        assert_eq!(points[1]["asDouble"], 1.5);
        assert!(found.iter().all(|metric| metric["name"] != "i"));
        assert_eq!(exported(""), Vec::<Value>::new());
    }
}
