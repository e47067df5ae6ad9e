//! What is shown: a table, a JSON file and a chart for each workload.

pub mod chart;
pub mod json;
pub mod metrics;
pub mod summary;
pub mod table;
