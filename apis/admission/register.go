package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"ebb.dev/ebb/apis/settings"
)

// Paths on the webhook server.
const (
	MutatePath   = "/admission/default"
	ValidatePath = "/admission/validate"
)

// Register serves admission on a webhook server, at MutatePath, ValidatePath and SettingsPath. Each
// request reads the settings that are current then. ask may be nil: then no dry run is made.
func Register(server webhook.Server, store *settings.Store, ask DryRun) {
	server.Register(MutatePath, &webhook.Admission{Handler: Mutator(store)})
	server.Register(ValidatePath, &webhook.Admission{Handler: Validator(store, ask)})
	server.Register(SettingsPath, &webhook.Admission{Handler: SettingsValidator()})
}

// Mutator is the handler that fills in defaults and stamps. It refuses what cannot be
// decoded and what has fields the kind does not have. It is safe for concurrent use.
func Mutator(store *settings.Store) admission.Handler {
	return admission.HandlerFunc(func(_ context.Context, req admission.Request) admission.Response {
		r, err := read(&req.AdmissionRequest)
		switch {
		case err != nil:
			return unreadable(&req, err)
		case r == nil:
			return admission.Allowed("")
		case len(r.unknown) > 0:
			return refused(&req, r.unknown)
		}
		patch, err := mutate(r, store.Load())
		if err != nil {
			return admission.Errored(http.StatusInternalServerError, err)
		}
		return admission.Patched("", patch...)
	})
}

// Validator is the handler that refuses what is wrong. With ask (which may be nil) it
// asks the API server too where that is wanted. It is safe for concurrent use.
func Validator(store *settings.Store, ask DryRun) admission.Handler {
	return admission.HandlerFunc(func(ctx context.Context, req admission.Request) admission.Response {
		r, err := read(&req.AdmissionRequest)
		switch {
		case err != nil:
			return unreadable(&req, err)
		case r == nil:
			return admission.Allowed("")
		}
		st := store.Load()
		errs := validate(r, st)
		if len(errs) == 0 {
			errs = tryPod(ctx, r, st, ask)
		}
		if len(errs) > 0 {
			return refused(&req, errs)
		}
		response := admission.Allowed("")
		if r.changed {
			response.Warnings = r.next.Warnings()
		}
		return response
	})
}

func unreadable(req *admission.Request, err error) admission.Response {
	var mistyped typeError
	if errors.As(err, &mistyped) {
		return refused(req, field.ErrorList{mistyped.wrong})
	}
	if errors.Is(err, errUnknownKind) {
		return admission.Errored(http.StatusNotFound, err)
	}
	return admission.Errored(http.StatusBadRequest, errors.New(clip(err.Error(), maxText)))
}

func refused(req *admission.Request, errs field.ErrorList) admission.Response {
	name := req.Name
	if name == "" {
		name = "(named by the server)"
	}
	few, more := bounded(errs)
	status := apierrors.NewInvalid(schema.GroupKind{Group: req.Kind.Group, Kind: req.Kind.Kind}, clip(name, maxValue), few).Status()
	if more > 0 {
		status.Message += fmt.Sprintf(", and %d more", more)
	}
	response := admission.Denied("")
	response.Result = &status
	return response
}
