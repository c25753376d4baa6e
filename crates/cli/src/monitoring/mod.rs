//! Alert rules for Prometheus and a dashboard for Grafana, written from two tables: nothing of
//! `deploy/` is edited by hand.

mod alerts;
mod dashboard;
mod table;

pub(crate) use alerts::rules;
pub(crate) use dashboard::dashboard;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The file is what is generated; with `QUORATE_BLESS=1` it becomes that.
    fn check(file: &str, generated: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
        if std::env::var_os("QUORATE_BLESS").is_some() {
            std::fs::write(&path, generated).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap();
        assert!(
            found == generated,
            "deploy/{file} is not what the tables say: run the test with QUORATE_BLESS=1"
        );
    }

    #[test]
    fn the_files_of_deploy_are_what_the_tables_say() {
        // Goal: nobody edits by hand what is generated.
        check("prometheus/quorate.rules.yml", &rules());
        check("grafana/quorate.json", &dashboard());
    }
}
