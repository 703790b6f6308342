//! The README says what the code does.

const README: &str = include_str!("../../README.md");

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    let table = fulmar::config::limits_table();
    assert!(README.contains(&table), "the table of README.md should read:\n\n{table}");
}

#[test]
fn every_folder_and_file_it_maps_is_there() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let map = README.split("## Map").nth(1).expect("a section called Map");
    let map = map.split("\n## ").next().expect("a section");
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let paths: Vec<_> = rows.collect();
    assert!(paths.len() >= 5, "{paths:?}");
    for path in paths {
        assert!(std::path::Path::new(root).join(path).exists(), "{path} is not there");
    }
}
