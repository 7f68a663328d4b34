//! The daemon restarted under load: whoever follows a command through the client sees every byte, and the command never notices.

use skerry_types::ExecEnd;

use crate::output::{Transcript, chatter, chatter_output, start};
use crate::world::{World, dice, moment, rounds};

const SANDBOXES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn followers_see_every_byte_across_restarts() {
    let (mut world, mut dice) = (World::start().await, dice());
    let restarts = rounds(3, 20);
    let length = restarts * 400;
    let mut followers = Vec::new();
    for number in 0..SANDBOXES * 2 {
        let sandbox = match followers.last() {
            Some((sandbox, _)) if number % 2 == 1 => Clone::clone(sandbox),
            _ => world.sandbox().await,
        };
        let exec = start(&sandbox, chatter(length)).await;
        let follower = {
            let sandbox = sandbox.clone();
            tokio::spawn(async move { Transcript::read(&sandbox, exec).await })
        };
        followers.push((sandbox, follower));
    }
    for restart in 0..restarts {
        tokio::time::sleep(moment(&mut dice, std::time::Duration::from_millis(400))).await;
        if restart % 2 == 0 {
            world.server.kill().unwrap();
        } else {
            assert!(world.server.end().unwrap().success());
        }
        world.server.start().unwrap();
    }
    let expected = chatter_output(length);
    for (_, follower) in followers {
        let heard = follower.await.unwrap();
        heard.assert_is(&expected);
        assert_eq!(heard.exit.unwrap().end, ExecEnd::Exited { code: 7 });
    }
    world.end().await;
}
