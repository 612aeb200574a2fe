// Package nearest finds what somebody who mistyped a name most likely meant. A name
// and the names that exist come in, one of those or nothing goes out. Whoever writes
// an error about an unknown name may call it.
package nearest
