//! The two ways a server introduces itself.

use super::capability;
use crate::meta_key;
use crate::profile::ClientProfile;
use crate::raw::RawJson;
use crate::revision::{Revision, modern_versions_json};
use crate::splice;

/// An InitializeResult from a DiscoverResult. `revision` is what was negotiated with
/// the client; `own_info` stands in when the server does not name itself. Members
/// nobody knows stay.
pub fn discover_to_initialize(discover: &RawJson, revision: Revision, own_info: &RawJson) -> RawJson {
    let named = splice::get_path(discover, &["_meta", meta_key::SERVER_INFO])
        .or_else(|| splice::get(discover, "serverInfo"))
        .filter(RawJson::is_object);
    let capabilities = splice::get(discover, "capabilities").filter(RawJson::is_object);
    let capabilities = capability::without_tasks(&capabilities.unwrap_or_else(RawJson::empty_object));
    let bare = splice::edit_in(discover, "_meta", &[(meta_key::SERVER_INFO, None)]);
    splice::edit(
        &bare,
        &[
            ("resultType", None),
            ("ttlMs", None),
            ("cacheScope", None),
            ("supportedVersions", None),
            ("protocolVersion", Some(&RawJson::string(revision.as_str()))),
            ("capabilities", Some(&capabilities)),
            ("serverInfo", Some(named.as_ref().unwrap_or(own_info))),
        ],
    )
}

/// A DiscoverResult from an InitializeResult. Members nobody knows stay.
pub fn initialize_to_discover(initialize: &RawJson) -> RawJson {
    let info = splice::get(initialize, "serverInfo");
    let capabilities = splice::get(initialize, "capabilities").filter(RawJson::is_object);
    let capabilities = capability::without_tasks(&capabilities.unwrap_or_else(RawJson::empty_object));
    let meta = splice::get(initialize, "_meta").filter(RawJson::is_object);
    let meta = match (&info, meta) {
        (Some(info), meta) => {
            let meta = meta.unwrap_or_else(RawJson::empty_object);
            Some(splice::set(&meta, meta_key::SERVER_INFO, info))
        }
        (None, meta) => meta,
    };
    splice::edit(
        initialize,
        &[
            ("protocolVersion", None),
            ("serverInfo", None),
            ("resultType", Some(&RawJson::string("complete"))),
            ("supportedVersions", Some(&modern_versions_json())),
            ("capabilities", Some(&capabilities)),
            ("ttlMs", Some(&RawJson::int(0))),
            ("cacheScope", Some(&RawJson::string("private"))),
            ("_meta", meta.as_ref()),
        ],
    )
}

/// Params of the `initialize` bartizan sends on behalf of a client, of either era.
/// `own_info` stands in when the client does not name itself.
pub fn initialize_params(client: &ClientProfile, revision: Revision, own_info: &RawJson) -> RawJson {
    let capabilities = match client.era {
        crate::Era::Legacy => client.capabilities.clone(),
        crate::Era::Modern => capability::to_legacy(&client.capabilities),
    };
    RawJson::object([
        ("protocolVersion", &RawJson::string(revision.as_str())),
        ("capabilities", &capabilities),
        ("clientInfo", client.client_info.as_ref().unwrap_or(own_info)),
    ])
}
