//! Machines that run sandboxes, as control knows them. They belong to the platform's org.

use jiff::Timestamp;
use skerry_types::{NodeId, OrgId};

use crate::Store;
use crate::context::System;
use crate::error::{Result, StoreError};
use crate::sandbox::words;
use crate::sql::{Row, sql};

words! {
    /// Whether a node takes work.
    NodeState {
        /// It does.
        Online = "online",
        /// It has not been heard of for too long, or never.
        Offline = "offline",
        /// It keeps what it has and takes nothing new.
        Draining = "draining",
        /// Somebody switched it off.
        Disabled = "disabled",
    }
}

/// The node of a single-machine installation.
pub const LOCAL_NODE: NodeId = NodeId::from_uuid(uuid::Uuid::from_u128(1));

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// Its machine's name.
    pub hostname: String,
    /// Sandboxes that it holds at once.
    pub slots_total: u32,
    /// Whether it takes work.
    pub state: NodeState,
    /// Its release.
    pub version: String,
    /// What its drivers can do, as it reported it.
    pub capabilities: serde_json::Value,
    /// When it was last heard of.
    pub last_seen_at: Option<Timestamp>,
    /// When it was first known.
    pub created_at: Timestamp,
}

impl Node {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: NodeId::from_uuid(row.get("id")?),
            name: row.get("name")?,
            hostname: row.get("hostname")?,
            slots_total: row.count("slots_total")?,
            state: row.word("state", NodeState::from_name)?,
            version: row.get("version")?,
            capabilities: row.json("capabilities")?,
            last_seen_at: row.time_opt("last_seen_at")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Store {
    /// Adds a node, or brings its record up to date. When it was first known stays.
    pub async fn put_node(&self, _: &System, node: Node, at: Timestamp) -> Result<()> {
        self.db
            .run(
                sql(
                    "INSERT INTO nodes (id, org_id, name, hostname, slots_total, state, version, \
                     capabilities, last_seen_at, created_at, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                     ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
                     hostname = excluded.hostname, slots_total = excluded.slots_total, \
                     state = excluded.state, version = excluded.version, \
                     capabilities = excluded.capabilities, last_seen_at = excluded.last_seen_at, \
                     updated_at = excluded.updated_at",
                )
                .bind(node.id)
                .bind(OrgId::PLATFORM)
                .bind(node.name)
                .bind(node.hostname)
                .bind(node.slots_total)
                .bind(node.state)
                .bind(node.version)
                .bind(node.capabilities)
                .bind(node.last_seen_at)
                .bind(node.created_at)
                .bind(at),
            )
            .await?;
        Ok(())
    }

    /// One node.
    pub async fn node(&self, _: &System, id: NodeId) -> Result<Node> {
        let row = self
            .db
            .row(sql("SELECT * FROM nodes WHERE id = $1").bind(id))
            .await?
            .ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        Node::read(&row)
    }

    /// Every node, oldest first.
    pub async fn nodes(&self, _: &System) -> Result<Vec<Node>> {
        let rows = self.db.rows(sql("SELECT * FROM nodes ORDER BY id")).await?;
        rows.iter().map(Node::read).collect()
    }

    /// Changes whether a node takes work. One that is online was seen.
    pub async fn set_node_state(
        &self,
        _: &System,
        id: NodeId,
        state: NodeState,
        at: Timestamp,
    ) -> Result<()> {
        let met = self
            .db
            .run(
                sql(
                    "UPDATE nodes SET state = $2, updated_at = $3, last_seen_at = \
                     CASE WHEN $2 = 'online' THEN $3 ELSE last_seen_at END WHERE id = $1",
                )
                .bind(id)
                .bind(state)
                .bind(at),
            )
            .await?;
        found(met, id)
    }
}

fn found(met: u64, id: NodeId) -> Result<()> {
    if met == 0 {
        return Err(StoreError::NotFound(id.to_string()));
    }
    Ok(())
}
