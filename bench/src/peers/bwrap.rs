//! bubblewrap: namespaces around one program. It has nothing that runs already, so there is no exec.

use anyhow::Result;

use super::{HELLO, Peer, Places, line, need, with};

pub(super) fn set_up(places: Places<'_>) -> Result<Peer> {
    let bwrap = need("bwrap")?;
    let command = line(&format!(
        "{bwrap} --unshare-all --unshare-user --die-with-parent --ro-bind {} / --proc /proc --dev /dev --tmpfs /tmp",
        places.rootfs.display()
    ));
    Ok(Peer {
        run: Some(with(&command, &HELLO)),
        ..Peer::new("bwrap", 200)
    })
}
