//! How long small pieces of work of the core take: `cargo bench --package fulmar-tests`.

use divan::Bencher;
use fulmar_tests::micro::ALL;

fn main() {
    divan::main();
}

#[divan::bench(args = ALL.map(|micro| micro.name))]
fn parts(bencher: Bencher<'_, '_>, name: &str) {
    let micro = ALL.iter().find(|micro| micro.name == name).expect("it is in the list");
    bencher.bench_local((micro.prepare)());
}
