package up

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Options of a platform.
type Options struct {
	Data    string // folder; the default one when empty
	Address string // IP on which the gateway listens for callers from outside
	Port    int    // of the gateway; 0 picks a free one, and keeps it
	// InternalPort is that of the in-cluster listener; 0 picks a free one, and keeps it.
	InternalPort int
	Activators   int    // how many; 1 when 0
	Eventing     bool   // run the eventing part and its store
	Controllers  int    // how many, of which one leads; 1 when 0
	Clean        bool   // begin with no state
	Envoy        string // path of an Envoy; searched for when empty
	Isolation    string // of pods: auto or none
	Verbose      bool
	AuditLog     string // file that gets a line for each request of the controller to the kube-apiserver; none when empty
	ThrowAway    bool   // the state need not survive a machine that loses power
	Out          io.Writer
}

// Flag values shared by the commands that start a platform.
const (
	DefaultPort      = 8080
	DefaultAddress   = "127.0.0.1"
	DefaultIsolation = "auto"

	maxActivators  = 16
	maxControllers = 5
)

func (o Options) check() error {
	var errs []error
	if net.ParseIP(o.Address) == nil {
		errs = append(errs, fmt.Errorf("--address %q is not an IP address: use 127.0.0.1, or 0.0.0.0 to be reached from other machines", o.Address))
	}
	if o.InternalPort < 0 || o.InternalPort > 65535 {
		errs = append(errs, fmt.Errorf("--internal-port %d is not between 0 and 65535", o.InternalPort))
	}
	if o.Port < 0 || o.Port > 65535 {
		errs = append(errs, fmt.Errorf("--port %d is not between 0 and 65535", o.Port))
	}
	if o.Activators < 0 || o.Activators > maxActivators {
		errs = append(errs, fmt.Errorf("--activators %d is not between 1 and %d", o.Activators, maxActivators))
	}
	if o.Controllers < 0 || o.Controllers > maxControllers {
		errs = append(errs, fmt.Errorf("--controllers %d is not between 1 and %d", o.Controllers, maxControllers))
	}
	if o.Isolation != "auto" && o.Isolation != "none" {
		errs = append(errs, fmt.Errorf("--isolation %q is not known: use auto or none", o.Isolation))
	}
	return errors.Join(errs...)
}

// programs are the executables of the platform.
type programs struct{ ebb, kube, node, shim string }

// findPrograms looks in the environment, beside this executable and in the PATH.
func findPrograms() (programs, error) {
	self, err := os.Executable()
	if err != nil {
		return programs{}, fmt.Errorf("find this program's own file: %w", err)
	}
	if resolved, err := filepath.EvalSymlinks(self); err == nil {
		self = resolved
	}
	p := programs{ebb: self}
	var missing []string
	for _, want := range []struct {
		name, env string
		to        *string
	}{{"ebb-kube", "EBB_KUBE", &p.kube}, {"ebb-node", "EBB_NODE", &p.node}, {"ebb-shim", "EBB_SHIM", &p.shim}} {
		if path := os.Getenv(want.env); path != "" {
			if _, err := os.Stat(path); err != nil {
				return programs{}, fmt.Errorf("$%s: %w", want.env, err)
			}
			*want.to = path
			continue
		}
		beside := filepath.Join(filepath.Dir(self), want.name)
		if info, err := os.Stat(beside); err == nil && !info.IsDir() {
			*want.to = beside
			continue
		}
		found, err := exec.LookPath(want.name)
		if err != nil {
			missing = append(missing, want.name)
			continue
		}
		if *want.to, err = filepath.Abs(found); err != nil {
			return programs{}, err
		}
	}
	if len(missing) > 0 {
		return programs{}, fmt.Errorf("%s not found beside %s or in the PATH: build with `make kube` in the repository", strings.Join(missing, ", "), self)
	}
	return p, nil
}
