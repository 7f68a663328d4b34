//! Volumes of the fake: which there are. What is in them no test of control asks for.

use async_trait::async_trait;
use skerry_proto::node::{ByteStream, VolumeAttributes, VolumeEntry, VolumeReport, Volumes};
use skerry_types::{Error, Result, VolumeId};

use super::{FakeNode, Fault};

fn none<T>() -> Result<T> {
    Err(Error::unsupported("the fake node holds no data"))
}

const REPORT: VolumeReport = VolumeReport {
    bytes: 4096,
    size_binds: true,
};

#[async_trait]
impl Volumes for FakeNode {
    async fn create_volume(&self, id: VolumeId, _: u64) -> Result<VolumeReport> {
        self.reach()?;
        if self.has(Fault::CreateFails) {
            return Err(Error::internal("the volume could not be made"));
        }
        self.world.lock().volumes.insert(id);
        Ok(REPORT)
    }
    async fn list_volumes(&self) -> Result<Vec<VolumeId>> {
        self.reach()?;
        Ok(self.world.lock().volumes.iter().copied().collect())
    }
    async fn volume_report(&self, _: VolumeId) -> Result<VolumeReport> {
        Ok(REPORT)
    }
    async fn remove_volume(&self, id: VolumeId) -> Result<()> {
        self.reach()?;
        if self.has(Fault::DeleteFails) {
            return Err(Error::internal("the volume could not be removed"));
        }
        self.world.lock().volumes.remove(&id);
        Ok(())
    }
    async fn stat_in_volume(&self, _: VolumeId, _: &str) -> Result<VolumeEntry> {
        none()
    }
    async fn list_in_volume(
        &self,
        _: VolumeId,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
    ) -> Result<(Vec<VolumeEntry>, bool)> {
        none()
    }
    async fn make_dir_in_volume(
        &self,
        _: VolumeId,
        _: &str,
        _: bool,
        _: VolumeAttributes,
    ) -> Result<VolumeEntry> {
        none()
    }
    async fn read_in_volume(&self, _: VolumeId, _: &str) -> Result<(VolumeEntry, ByteStream)> {
        none()
    }
    async fn write_in_volume(
        &self,
        _: VolumeId,
        _: &str,
        _: bool,
        _: VolumeAttributes,
        _: ByteStream,
    ) -> Result<VolumeEntry> {
        none()
    }
    async fn change_in_volume(
        &self,
        _: VolumeId,
        _: &str,
        _: VolumeAttributes,
    ) -> Result<VolumeEntry> {
        none()
    }
    async fn remove_in_volume(&self, _: VolumeId, _: &str) -> Result<()> {
        none()
    }
}
