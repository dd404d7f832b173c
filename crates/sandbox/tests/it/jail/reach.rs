//! The ends that reach a program: listeners, connections.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::case;
use crate::world::{Case, World, lines_of, read_all};

pub(crate) const CASES: &[Case] = &[case!(listeners_inside_are_handed_out), case!(connections_go_in)];

async fn listeners_inside_are_handed_out(world: World) {
    let script = "for port in 9001 80; do exec 3<>/dev/tcp/127.0.0.1/$port; echo from inside >&3; read answer <&3; echo $answer; done";
    let mut job = world.script("");
    job.argv = ["/bin/bash", "-c", script].map(str::to_owned).to_vec();
    job.listen = vec![9001, 80];
    let mut jail = world.spawn(job).await.unwrap();
    let listeners = jail.take_listeners();
    assert_eq!(listeners.iter().map(|l| l.local_addr().unwrap().port()).collect::<Vec<_>>(), [9001, 80]);
    for listener in listeners {
        let listener = TcpListener::from_std(listener).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"from outside\n").await.unwrap();
        let mut text = [0; 12];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"from inside\n");
    }
    assert_eq!(read_all(&mut jail).await, "from outside\nfrom outside\n");
    assert!(jail.take_listeners().is_empty() && jail.take_output().is_none());
}

async fn connections_go_in(world: World) {
    let program = "import socket\ninput = socket.create_server(('127.0.0.1', 80))\nprint('up', flush=True)\n\
                   while True:\n  s, _ = input.accept()\n  s.sendall(s.recv(100).upper())\n  s.close()\n";
    let refused = world.spawn(world.script("sleep 1000")).await.unwrap();
    assert_eq!(refused.connect(80).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let mut jail = world.spawn(world.python(program)).await.unwrap();
    let _output = lines_of(&mut jail, "up").await;
    let calls = (0..20).map(|_| async {
        let mut stream = TcpStream::from_std(jail.connect(80).await.unwrap()).unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    });
    for text in futures_util::future::join_all(calls).await {
        assert_eq!(text, "HELLO");
    }
    jail.kill().await;
    assert_eq!(jail.connect(80).await.unwrap_err().kind(), ErrorKind::NotConnected);
}
