// Package source has what the controllers of all sources do alike: resolve the sink, and wake
// up when its address changes.
package source
