// Package figures keeps what a benchmark measured: named numbers, each with its unit, its
// number of samples and the way it was got in words. Figures and targets come in, a table
// with charts and a JSON object go out. It measures nothing and knows nothing of the
// product; test/bench calls it.
package figures
