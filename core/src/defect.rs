//! Defects on purpose, to show that the simulation finds them.

/// False. In a core built with `--cfg fulmar_defects`, as `tests/sim_defects.sh` does, it is true
/// for the one that the environment variable `FULMAR_DEFECT` names.
#[cfg(not(fulmar_defects))]
macro_rules! defect {
    ($name:literal) => {
        false
    };
}

#[cfg(fulmar_defects)]
macro_rules! defect {
    ($name:literal) => {
        crate::defect::chosen::is($name)
    };
}

#[cfg(fulmar_defects)]
pub(crate) mod chosen {
    use std::ffi::OsString;
    use std::sync::LazyLock;

    pub(crate) fn is(name: &str) -> bool {
        static CHOSEN: LazyLock<Option<OsString>> =
            LazyLock::new(|| std::env::var_os("FULMAR_DEFECT"));
        CHOSEN.as_ref().is_some_and(|chosen| chosen == name)
    }
}
