//! Formats: an event as one line. Whatever a client, server or person called itself, a line
//! stays one line.

mod cef;
mod ecs;
mod ocsf;

use bartizan_config::export::Format;
use serde_json::{Map, Value};

use crate::event::Event;

/// Version in events and headers.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The event as one line without its newline.
pub fn write(format: Format, event: &Event) -> String {
    match format {
        Format::Native => event.native().to_string(),
        Format::Ocsf => ocsf::value(event).to_string(),
        Format::Ecs => ecs::value(event).to_string(),
        Format::Cef => cef::line(event),
    }
}

/// Collects members that are there.
#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    fn set(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    fn some(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.set(name, value);
        }
        self
    }

    /// An object, unless it is empty.
    fn object(&mut self, name: &str, members: Self) -> &mut Self {
        if !members.0.is_empty() {
            self.0.insert(name.to_owned(), Value::Object(members.0));
        }
        self
    }
}
