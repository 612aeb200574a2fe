package nearest_test

import (
	"testing"

	"ebb.dev/ebb/apis/serving/nearest"
)

func TestName(t *testing.T) {
	known := []string{"env", "image", "imagePullPolicy", "ports"}
	for name, want := range map[string]string{
		"evn": "env", "imag": "image", "Image": "image", "imagePulPolicy": "imagePullPolicy", "port": "ports", "zebra": "", "": "",
	} {
		if got := nearest.Name(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
