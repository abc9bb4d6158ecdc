//! Lists, filters and parts.

use super::*;

async fn crowd() -> Bench {
    let bench = Bench::new().await;
    for (name, title, active) in
        [("ana@x.example", "Dr", true), ("bo@x.example", "Prof", false), ("cy@y.example", "Dr", true)]
    {
        let body = json!({
            "schemas": [USER], "userName": name, "title": title, "active": active, "externalId": format!("ext-{name}"),
            "emails": [{"value": name, "type": "work"}, {"value": format!("home-{name}"), "type": "home"}],
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": format!("d {title}")},
        });
        assert_eq!(bench.ask("POST", "/Users", body).await.status, 201);
    }
    bench
}

#[tokio::test]
async fn a14_filters_find_what_fits() {
    let bench = crowd().await;
    let (ana, bo, cy) = ("ana@x.example", "bo@x.example", "cy@y.example");
    let cases: [(&str, &[&str]); 24] = [
        ("userName eq \"ANA@X.example\"", &[ana]),
        ("externalId eq \"ext-bo@x.example\"", &[bo]),
        ("externalId eq \"EXT-bo@x.example\"", &[]),
        ("userName sw \"a\"", &[ana]),
        ("userName ew \"X.EXAMPLE\"", &[ana, bo]),
        ("userName co \"y.e\"", &[cy]),
        ("title ne \"Dr\"", &[bo]),
        ("title eq \"Dr\" and active eq true", &[ana, cy]),
        ("active eq \"False\"", &[bo]),
        ("title eq \"Prof\" or userName sw \"c\"", &[bo, cy]),
        ("not (title eq \"Dr\")", &[bo]),
        ("(title eq \"Dr\" or title eq \"Prof\") and userName ew \"y.example\"", &[cy]),
        ("title eq \"Prof\" or title eq \"Dr\" and userName sw \"a\"", &[ana, bo]),
        ("emails eq \"bo@x.example\"", &[bo]),
        ("emails.value co \"home-cy\"", &[cy]),
        ("emails[type eq \"work\" and value sw \"ana\"]", &[ana]),
        ("emails[type eq \"home\" and value sw \"ana\"]", &[]),
        ("nickName pr", &[]),
        ("title pr and not (nickName pr)", &[ana, bo, cy]),
        ("nickName eq null", &[ana, bo, cy]),
        ("urn:ietf:params:scim:schemas:core:2.0:User:title EQ \"prof\"", &[bo]),
        ("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq \"d dr\"", &[ana, cy]),
        ("meta.created gt \"2020-01-01T00:00:00Z\" and meta.resourceType eq \"User\"", &[ana, bo, cy]),
        ("title eq \"a \\\" quote\"", &[]),
    ];
    for (filter, expected) in cases {
        assert_eq!(bench.fitting("Users", filter).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn a14_bad_filters_are_refused() {
    let bench = crowd().await;
    let deep = format!("{}title pr{}", "(".repeat(20), ")".repeat(20));
    let long = vec!["title eq \"x\""; 60].join(" or ");
    let nested = format!("{}title pr{}", "not (".repeat(500), ")".repeat(500));
    let huge = format!("title eq \"{}\"", "x".repeat(5_000));
    let cases = [
        "title",
        "title eq",
        "title eq Dr",
        "title zz \"a\"",
        "eq \"a\"",
        "title eq \"a",
        "title eq \"a\" and",
        "title eq \"a\")",
        "(title eq \"a\"",
        "unknown eq \"a\"",
        "active gt true",
        "active eq \"x\"",
        "title gt null",
        "emails[type eq \"a\"",
        "emails[emails[type pr]]",
        "title[x pr]",
        "password pr",
        "title eq 5",
        "\u{0}",
        "and",
        "title eq \"\\q\"",
        "é eq \"a\"",
        "urn:x:title pr",
        &deep,
        &long,
        &nested,
        &huge,
    ];
    for filter in cases {
        let query: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        let answer = bench.get(&format!("/Users?filter={query}")).await;
        assert_eq!(problem(&answer), (400, "invalidFilter"), "{filter}");
    }
}

#[tokio::test]
async fn a14_pages_are_bounded() {
    let bench = crowd().await;
    let page = bench.get("/Users?startIndex=2&count=1").await.body;
    assert_eq!((&page["totalResults"], &page["startIndex"], &page["itemsPerPage"]), (&json!(3), &json!(2), &json!(1)));
    let page = bench.get("/Users?count=0").await.body;
    assert_eq!((&page["totalResults"], page["Resources"].as_array().unwrap().len()), (&json!(3), 0));
    assert_eq!(bench.get("/Users?startIndex=-5&count=-1").await.body["itemsPerPage"], 0);
    assert_eq!(bench.get("/Users?count=999999999").await.body["itemsPerPage"], 3);
    assert_eq!(bench.get("/Users?startIndex=9223372036854775807").await.body["itemsPerPage"], 0);
    assert_eq!(problem(&bench.get("/Users?count=many").await), (400, "invalidValue"));
    let filtered = bench.get("/Users?filter=title%20eq%20%22Dr%22&startIndex=2&count=1").await.body;
    assert_eq!(
        (&filtered["totalResults"], &filtered["Resources"][0]["userName"]),
        (&json!(2), &filtered["Resources"][0]["userName"])
    );
    assert_eq!(filtered["itemsPerPage"], 1);
}

#[tokio::test]
async fn a14_answers_have_the_attributes_that_are_wanted() {
    let bench = crowd().await;
    let list = |query: &'static str| {
        let bench = &bench;
        async move { bench.get(&format!("/Users?{query}")).await.body["Resources"][0].clone() }
    };
    let one = list("attributes=userName,emails.type&filter=userName%20sw%20%22ana%22").await;
    let names: Vec<&String> = one.as_object().unwrap().keys().collect();
    assert_eq!(names, ["schemas", "id", "userName", "emails"]);
    assert_eq!(one["emails"], json!([{"type": "work"}, {"type": "home"}]));
    let one =
        list("excludedAttributes=id,emails,meta,urn:ietf:params:scim:schemas:extension:enterprise:2.0:User").await;
    assert!(one.get("id").is_some() && one.get("emails").is_none() && one.get("meta").is_none(), "{one}");
    assert_eq!(problem(&bench.get("/Users?attributes=a&excludedAttributes=b").await), (400, "invalidValue"));
    let found = bench.ask("POST", "/.search", json!({"filter": "meta.resourceType pr", "count": 2})).await;
    assert_eq!((&found.body["totalResults"], &found.body["itemsPerPage"]), (&json!(3), &json!(2)));
    let found =
        bench.ask("POST", "/Users/.search", json!({"attributes": ["title"], "filter": "title eq \"Prof\""})).await;
    assert_eq!(found.body["Resources"][0]["title"], "Prof");
}

#[tokio::test]
async fn a14_the_service_describes_itself() {
    let bench = Bench::new().await;
    let service = bench.get("/ServiceProviderConfig").await.body;
    assert_eq!((&service["patch"]["supported"], &service["bulk"]["supported"]), (&json!(true), &json!(false)));
    assert_eq!(bench.get("/ResourceTypes").await.body["totalResults"], 2);
    assert_eq!(bench.get("/ResourceTypes/Group").await.body["schema"], GROUP);
    let user = bench.get(&format!("/Schemas/{}", USER.replace(':', "%3A"))).await.body;
    let attributes = user["attributes"].as_array().unwrap();
    assert!(!attributes.iter().any(|one| one["name"] == "password" || one["name"] == "x509Certificates"));
    assert_eq!(bench.get("/Schemas?filter=id%20pr").await.status, 403);
    for (method, path, status) in [
        ("GET", "/Schemas/none", 404),
        ("GET", "/", 404),
        ("GET", "/Users/a/b", 404),
        ("POST", "/Schemas", 405),
        ("DELETE", "/Users", 405),
        ("GET", "/Me", 501),
        ("POST", "/Bulk", 501),
    ] {
        assert_eq!(bench.ask(method, path, json!({})).await.status, status, "{method} {path}");
    }
}
