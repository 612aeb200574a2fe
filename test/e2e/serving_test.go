package e2e

import (
	"testing"

	"ebb.dev/ebb/test/e2e/platform"
)

func TestCreateAndCall(t *testing.T) {
	n := begin(t)
	s := n.Deploy("hello", nil)
	answer := n.MustFetch(t, n.URL("hello", "/"))
	if answer.Revision() != "hello-00001" || answer.Body != "hello-00001 \n" {
		t.Errorf("answer is %s from %q", answer, answer.Revision())
	}
	if got := n.MustFetch(t, s.Status.URL); got.Revision() != "hello-00001" {
		t.Errorf("%s, the URL of the status, answers %s", s.Status.URL, got)
	}
	in, err := n.Fetch(t.Context(), platform.Internal, s.Status.Address.URL)
	if err != nil || in.Revision() != "hello-00001" {
		t.Errorf("%s, the address of the status, answers %s, %v", s.Status.Address.URL, in, err)
	}
	n.AwaitZero("hello")
	n.MustFetch(t, n.URL("hello", "/"))
}
