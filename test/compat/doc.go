// Package compat holds tests only. The public Go module, knative.dev/serving at
// PublicVersion, is linked here and nowhere else: its clientset and informers work with a
// whole platform, its types read what we send and lose nothing, its declarations and
// schemas are compared with ours.
//
// Of the modules that the public one needs, two come at an older version and one constant
// from standin; docs/decisions/0008 says why, and what that leaves unproven.
package compat
