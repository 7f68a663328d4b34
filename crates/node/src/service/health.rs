//! Whether the node is well.

use async_trait::async_trait;
use skerry_proto::node::{Health, NodeHealth};
use skerry_types::Result;

use crate::node::Node;

#[async_trait]
impl Health for Node {
    async fn health(&self) -> Result<NodeHealth> {
        let mut storage = None;
        for driver in &self.drivers {
            if let Err(error) = driver.check().await {
                storage = Some(error.to_string());
            }
        }
        let records = self.budget.check().err().map(|error| error.message);
        Ok(NodeHealth { storage, records })
    }
}
