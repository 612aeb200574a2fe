// Package metricsdoc reads docs/metrics.md, so that tests can compare what the page lists with
// what the programs register, and dashboards with both. Only tests may import it.
package metricsdoc
