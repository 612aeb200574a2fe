// Package trusttest gives tests certificates of roles, from the code that makes them on a cluster, in files as
// a part finds them. Only tests may call it.
package trusttest
