//! The wiki's first contents.

use super::{Page, Version, slug_of};

/// Id and title.
pub(super) const SPACES: [(&str, &str); 3] =
    [("handbook", "Handbook"), ("engineering", "Engineering"), ("support", "Customer support")];

/// Space, title, author, age in days, text.
const PAGES: [(&str, &str, &str, i64, &str); 7] = [
    (
        "handbook",
        "Working hours",
        "esra",
        210,
        "We work 38 hours a week. Core time is 10:00 to 15:00. Nobody has to \
      answer messages outside it.\n\n## Holidays\n30 days. Enter them two weeks ahead in the calendar.",
    ),
    (
        "handbook",
        "Travel and expenses",
        "bob",
        95,
        "Book trains before planes. Hotels up to 140 euros a night.\n\n\
      Requests up to 1,000 euros go through the tracker (`request_budget`). Anything above needs the signature of the \
      finance partner first.",
    ),
    (
        "engineering",
        "On-call guide",
        "dmitri",
        12,
        "One week each, hand-over on Monday at 11:00.\n\n1. Acknowledge \
      within 10 minutes.\n2. Look at the order queue first: most alarms begin there.\n3. Write down what you did in \
      the incident channel.\n\nCall the second person after 30 minutes without progress.",
    ),
    (
        "engineering",
        "How we release",
        "alice",
        33,
        "Every merge to `main` is released to staging. Production follows \
      at 14:00 on working days unless somebody stops it.\n\nRoll back first, look for the cause afterwards.",
    ),
    (
        "engineering",
        "Architecture of the shop",
        "alice",
        150,
        "Three services: **catalogue** (read mostly, cached), \
      **basket** (session bound), **orders** (the only one that writes invoices).\n\nThe warehouse is reached through \
      its own API with a client certificate, see OPS-2.",
    ),
    (
        "support",
        "Refund rules",
        "carol",
        60,
        "Full refund within 30 days. After that a voucher. Damaged parcels: always \
      a refund, ask for a photo, never for the parcel.",
    ),
    (
        "support",
        "Answers to frequent questions",
        "carol",
        5,
        "**When does my parcel arrive?** Two to four working days. \
      WEB-2 will show the date on the product page.\n\n**My basket is empty.** A known fault (WEB-1); offer free \
      delivery.",
    ),
];

pub(super) fn pages(now_ms: i64) -> Vec<Page> {
    let page = |(space, title, author, age, body): (&str, &str, &str, i64, &str)| Page {
        slug: slug_of(title),
        space: space.to_owned(),
        title: title.to_owned(),
        versions: vec![Version {
            author: author.to_owned(),
            at_ms: now_ms - age * 86_400_000,
            remark: "created".to_owned(),
            body: body.to_owned(),
        }],
    };
    PAGES.map(page).into()
}
