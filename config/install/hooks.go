package install

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

	"ebb.dev/ebb/apis/admission"
)

// hooks tell the kube-apiserver to ask the controller's admission. The authority of its certificate is the controller's to fill in.
func hooks() []client.Object {
	mutating, validating := admission.Configurations(admission.Target{Namespace: Namespace, Service: ControllerName, Port: admissionPort, Controller: ControllerUser, Eventing: EventingUser})
	return []client.Object{mutating, validating}
}
