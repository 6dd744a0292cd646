//! The example files.

use gptproto_gateway::config::{Config, Environment};

#[test]
fn every_setting_of_the_sidecar_example_is_known() {
    let text = include_str!("../../config/sidecar.env.example");
    let mut environment = Environment::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{line} is no setting"));
        assert!(!value.contains(['"', '\'']), "{line}: quotes become part of the value");
        assert_eq!(environment.insert(name.to_owned(), value.to_owned()), None, "{name} is there twice");
    }
    assert!(environment.len() > 5);
    let config = Config::load(None, &environment).unwrap();
    assert!(config.require_keys().is_err(), "with keys that everybody can read, nothing is served");
    for name in environment.keys().filter(|name| name.starts_with("GATEWAY_") && name.contains("__")) {
        let mut misspelt = environment.clone();
        let value = misspelt.remove(name).unwrap();
        misspelt.insert(format!("{name}S"), value);
        let error = Config::load(None, &misspelt).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}S")), "a misspelt name stops the gateway: {error}");
    }
}
