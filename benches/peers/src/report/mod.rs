//! What is shown: a table, a JSON file and a chart for each workload.

pub mod chart;
pub mod table;
