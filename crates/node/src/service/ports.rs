//! Programs in sandboxes that listen.

use async_trait::async_trait;
use skerry_proto::node::{ByteStream, Ports};
use skerry_types::{Result, SandboxId};

use crate::node::Node;
use crate::transfer::dial;

#[async_trait]
impl Ports for Node {
    async fn dial(
        &self,
        sandbox: SandboxId,
        port: u16,
        outgoing: ByteStream,
    ) -> Result<ByteStream> {
        dial(&self.handle(sandbox)?, port, outgoing).await
    }
}
