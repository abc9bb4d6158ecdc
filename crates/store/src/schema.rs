//! The schema as comparable text (fork: each engine describes itself in its own way).

use sqlx::Row as _;
use sqlx::postgres::PgPool;
use sqlx::sqlite::SqlitePool;

use crate::engine::Pools;
use crate::error::StoreError;

/// `table.column type null|not null key` and `index table(columns) unique where` lines, sorted.
pub(crate) async fn dump(pools: &Pools) -> Result<Vec<String>, StoreError> {
    let mut lines = match pools {
        Pools::Sqlite(pools) => sqlite(&pools.read).await?,
        Pools::Postgres(pool) => postgres(pool).await?,
    };
    lines.retain(|line| !line.contains("schema_migration"));
    lines.sort();
    Ok(lines)
}

fn canonical_type(declared: &str) -> &str {
    match declared.to_ascii_lowercase().as_str() {
        "bigint" | "integer" => "int",
        "text" => "text",
        "blob" | "bytea" => "blob",
        _ => "other",
    }
}

fn column_line(table: &str, column: &str, kind: &str, not_null: bool, key: i64) -> String {
    let null = if not_null { "not null" } else { "null" };
    format!("{table}.{column} {} {null} key {key}", canonical_type(kind))
}

fn index_line(name: &str, table: &str, columns: &str, unique: bool, partial: bool) -> String {
    let unique = if unique { " unique" } else { "" };
    let partial = if partial { " partial" } else { "" };
    format!("index {name} {table}({columns}){unique}{partial}")
}

async fn sqlite(pool: &SqlitePool) -> Result<Vec<String>, StoreError> {
    let columns = sqlx::query(
        "SELECT m.name, c.name, c.type, c.\"notnull\", c.pk \
         FROM sqlite_master m JOIN pragma_table_info(m.name) c \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
    )
    .fetch_all(pool)
    .await?;
    let mut lines = Vec::new();
    for row in columns {
        let (table, column, kind): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (not_null, key): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
        lines.push(column_line(&table, &column, &kind, not_null != 0, key));
    }
    let indexes = sqlx::query(
        "SELECT i.name, m.name, (SELECT group_concat(c.name, ',') FROM pragma_index_info(i.name) c), \
                i.\"unique\", i.partial \
         FROM sqlite_master m JOIN pragma_index_list(m.name) i \
         WHERE m.type = 'table' AND i.origin = 'c'",
    )
    .fetch_all(pool)
    .await?;
    for row in indexes {
        let (name, table, columns): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (unique, partial): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
        lines.push(index_line(&name, &table, &columns, unique != 0, partial != 0));
    }
    Ok(lines)
}

async fn postgres(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    let columns = sqlx::query(
        "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
                coalesce(array_position(k.conkey, a.attnum), 0)::bigint \
         FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema() \
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p' \
         WHERE c.relkind = 'r'",
    )
    .fetch_all(pool)
    .await?;
    let mut lines = Vec::new();
    for row in columns {
        let (table, column, kind): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (not_null, key): (bool, i64) = (row.try_get(3)?, row.try_get(4)?);
        lines.push(column_line(&table, &column, &kind, not_null, key));
    }
    let indexes = sqlx::query(
        "SELECT i.relname::text, t.relname::text, \
                (SELECT string_agg(a.attname, ',' ORDER BY k.ord) \
                 FROM unnest(x.indkey) WITH ORDINALITY k(num, ord) \
                 JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.num), \
                x.indisunique, x.indpred IS NOT NULL \
         FROM pg_index x \
         JOIN pg_class i ON i.oid = x.indexrelid \
         JOIN pg_class t ON t.oid = x.indrelid \
         JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = current_schema() \
         WHERE NOT x.indisprimary",
    )
    .fetch_all(pool)
    .await?;
    for row in indexes {
        let (name, table, columns): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (unique, partial): (bool, bool) = (row.try_get(3)?, row.try_get(4)?);
        lines.push(index_line(&name, &table, &columns, unique, partial));
    }
    Ok(lines)
}
