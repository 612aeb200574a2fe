package revision

import "testing"

func TestRefusedIsWhatWillNotPass(t *testing.T) {
	for message, want := range map[string]bool{
		`pods "a-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0`: true,
		`Pod "a-1" is invalid: spec.containers[0].name: Required value`:                                    true,
		`admission webhook "policy.example.com" denied the request: no`:                                    true,
		`rpc error: code = Unavailable desc = error reading from server: EOF`:                              false,
		`etcdserver: request timed out`:                                                                    false,
		`Internal error occurred: failed calling webhook "policy.example.com": context deadline exceeded`:  false,
		`the server is currently unable to handle the request`:                                             false,
	} {
		if got := refused(message); got != want {
			t.Errorf("refused(%s) = %v", message, got)
		}
	}
}
