use std::thread;
use trunkline::*;

#[test]
fn small_and_large_and_ping() {
    let key = Key::generate();
    let listener = Listener::bind("127.0.0.1:0", Config::new(key.clone())).unwrap();
    let client = Connection::connect(listener.local_addr(), Config::new(key)).unwrap();
    let server = listener.accept().unwrap();
    let a = ChannelId::new(1);
    let rx = server.receiver(a).unwrap();
    let t = thread::spawn(move || {
        let s = client.sender(a).unwrap();
        for i in 0..1_000_000u64 {
            s.send(i.to_be_bytes()).unwrap();
        }
        for i in 0..100u8 {
            s.send_bytes(vec![i; 65536].into()).unwrap();
        }
        s.send(vec![9; 10 << 20]).unwrap();
    });
    for i in 0..1_000_000u64 {
        assert_eq!(&*rx.recv().unwrap(), i.to_be_bytes());
    }
    for i in 0..100u8 {
        assert!(&*rx.recv().unwrap() == &vec![i; 65536][..]);
    }
    assert!(&*rx.recv().unwrap() == &vec![9; 10 << 20][..]);
    assert_eq!(rx.recv().unwrap_err(), RecvError::Finished);
    t.join().unwrap();
    let end = rx.recv().unwrap_err();
    assert!(matches!(end, RecvError::ConnectionLost(ConnectionError::ClosedByPeer { .. })), "{end:?}");
}
