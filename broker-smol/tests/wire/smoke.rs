use crate::harness::*;

#[test]
fn harness_works() {
    let b = shared();
    for v in ALL {
        for q in 0..=2 {
            let t = unique("smoke");
            let mut s = b.connect(v, &unique("s"));
            assert_eq!(s.subscribe(&t, q), q);
            let mut p = b.connect(v, &unique("p"));
            p.publish(&t, "hello", q);
            assert_eq!(s.take().text(), "hello");
            s.expect_nothing();
            s.unsubscribe(&[&t]);
            s.disconnect();
            p.cut();
        }
    }
}
