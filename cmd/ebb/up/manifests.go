package up

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/admission"
)

// admissionHooks tell the kube-apiserver to ask Ebb's admission at url, an https base.
func admissionHooks(url string, bundle []byte) []client.Object {
	mutating, validating := admission.Configurations(admission.Target{URL: url, CABundle: bundle, Controller: controllerUser, Eventing: eventingUser})
	return []client.Object{mutating, validating}
}
