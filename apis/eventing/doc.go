// Package eventing holds the groups, annotations and values that the kinds of eventing share.
package eventing
