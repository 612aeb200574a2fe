// Package serving holds the names by which the objects of the Serving API find
// each other: the API group and the keys of labels and annotations, those of the
// public API and Ebb's own.
//
// Nothing comes in and nothing goes out: the package is constants only, and every
// other package may import it. The types themselves are in serving/v1.
package serving
