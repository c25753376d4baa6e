//! The dashboard as a file for Grafana.

use serde_json::{Value, json};

use super::table::{PANELS, Panel};

const WIDTH: usize = 12;
const HEIGHT: usize = 8;

/// The dashboard, with the data source as a variable.
pub(crate) fn dashboard() -> String {
    let panels: Vec<Value> =
        PANELS.iter().enumerate().map(|(index, panel)| panel_json(index, panel)).collect();
    let dashboard = json!({
        "title": "Quorate",
        "uid": "quorate",
        "tags": ["quorate"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{
            "name": "source", "type": "datasource", "query": "prometheus", "label": "Data source",
        }]},
        "panels": panels,
    });
    // Plain values always serialize.
    let mut text = serde_json::to_string_pretty(&dashboard).unwrap_or_default();
    text.push('\n');
    text
}

fn panel_json(index: usize, panel: &Panel) -> Value {
    let source = json!({"type": "prometheus", "uid": "${source}"});
    let targets: Vec<Value> = panel
        .lines
        .iter()
        .enumerate()
        .map(|(line, (expression, legend))| {
            let name = char::from(b'A' + u8::try_from(line).unwrap_or_default());
            json!({
                "refId": name.to_string(),
                "datasource": source,
                "expr": expression,
                "legendFormat": legend,
            })
        })
        .collect();
    json!({
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {
            "x": index % 2 * WIDTH, "y": index / 2 * HEIGHT, "w": WIDTH, "h": HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    })
}
