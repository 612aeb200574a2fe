package ir_test

import (
	"testing"

	"ebb.dev/ebb/proxy/ir"
)

// FuzzParseRevisionCluster: a name is an error, or the name of what it is read as.
func FuzzParseRevisionCluster(f *testing.F) {
	for _, name := range []string{"rev/default/hello-00001/6ae0c43e", "rev/a/b", "rev/a/b/c/d", "rev///", "", "x/a/b/c", "rev/a b/c/d\n"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, cluster string) {
		namespace, name, uid, err := ir.ParseRevisionCluster(cluster)
		if err != nil {
			return
		}
		if namespace == "" || name == "" || uid == "" || ir.RevisionCluster(namespace, name, uid) != cluster {
			t.Fatalf("%q is read as %q %q %q", cluster, namespace, name, uid)
		}
	})
}
