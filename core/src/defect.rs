//! Defects on purpose, to show that the simulation finds them.

/// False, except in a core built with `--cfg fulmar_defect="name"`, which `tests/sim_defects.sh`
/// does for one name after the other.
macro_rules! defect {
    ($name:literal) => {
        cfg!(fulmar_defect = $name)
    };
}
