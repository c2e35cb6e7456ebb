//! `acemux doctor` and `acemux engines` on a real daemon.

use acemux_testkit::docker::{Program, docker};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stop_leaves_running_is_said_listed_and_removed_and_nothing_of_others() {
    let mut program = Program::start("leftbehind", "22980-22999", &[]).await;
    let neighbour =
        Program::start("neighbour", "22960-22979", &[("MIN_REPLICAS", "1"), ("MAX_REPLICAS", "1")]).await;
    let (engines, others) = (program.until_healthy(2).await, neighbour.until_healthy(1).await);
    let examined = program.command(&["doctor"]).await;
    assert_eq!(examined.code, Some(0), "{examined:?}");
    assert!(examined.out.contains("acemux runs"), "{examined:?}");
    program.stop().await;
    assert!(program.log().contains("2 engine(s) are left running"), "{}", program.log());
    let state = docker(&["inspect", "--format", "{{.State.Running}}", &engines[0]]).await;
    assert_eq!(state, "true");

    let listed = program.command(&["engines", "list"]).await;
    assert!(engines.iter().all(|id| listed.out.contains(&id[..12])), "{listed:?}");
    assert!(!listed.out.contains(&others[0][..12]) && listed.err.contains(&neighbour.instance), "{listed:?}");
    let named = program.command(&["engines", "remove", &others[0], &engines[0]]).await;
    assert!(named.code == Some(1) && named.err.contains("is left alone"), "{named:?}");
    assert_eq!(program.containers().await, engines[1..]);
    let all = program.command(&["engines", "remove", "--all"]).await;
    assert!(all.code == Some(0) && program.containers().await.is_empty(), "{all:?}");
    assert_eq!(neighbour.containers().await, others);
    let examined = program.command(&["doctor"]).await;
    assert!(examined.code == Some(0) && examined.out.contains("is free"), "{examined:?}");
}
