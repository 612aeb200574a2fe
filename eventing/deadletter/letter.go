package deadletter

import (
	"fmt"
	"strings"
	"time"

	"ebb.dev/ebb/eventing/delivery"
	"ebb.dev/ebb/eventing/event"
	"ebb.dev/ebb/eventing/plan"
)

// Extensions of events that Ebb puts into the engine for itself. No subscriber and no sink sees them, and none is taken from outside.
const (
	ownerExtension        = "ebbowner"        // KIND/NAMESPACE/NAME of the subscription
	subscriptionExtension = "ebbsubscription" // the engine's name of it
	idExtension           = "ebbid"           // the id that the event has
	forExtension          = "ebbfor"          // the one subscription that a redelivered event is for
)

// Internal says whether an extension is one that only Ebb itself sets.
func Internal(name string) bool {
	switch name {
	case ownerExtension, subscriptionExtension, idExtension, forExtension:
		return true
	}
	return false
}

// Strip takes the extensions away that only Ebb sets.
func Strip(e *event.Event) {
	for i := len(e.Extensions) - 1; i >= 0; i-- {
		if name := e.Extensions[i].Name; Internal(name) {
			e.RemoveExtension(name)
		}
	}
}

// Address makes a dead letter that of one subscription. An engine stores a source and id once, and the same event may be a dead letter of
// several subscriptions: so its id is another one, the same whenever this subscription stores it.
func Address(dead *event.Event, owner plan.Reference, subscription string) {
	dead.SetExtension(idExtension, dead.ID)
	dead.ID += "@" + subscription
	dead.SetExtension(ownerExtension, owner.Kind+"/"+owner.Namespace+"/"+owner.Name)
	dead.SetExtension(subscriptionExtension, subscription)
}

// Letter is a dead letter.
type Letter struct {
	Sequence     uint64    // in the topic of dead letters
	At           time.Time // when it was stored
	Owner        plan.Reference
	Subscription string       // the engine's name
	Event        *event.Event // as it was before it was a dead letter
	Failure      delivery.Failure
}

// Open reads a dead letter as it is stored.
func Open(stored *event.Event, sequence uint64, at time.Time) Letter {
	l := Letter{Sequence: sequence, At: at}
	owner, _ := stored.Get(ownerExtension)
	if part := strings.SplitN(owner, "/", 3); len(part) == 3 {
		l.Owner = plan.Reference{Kind: part[0], Namespace: part[1], Name: part[2]}
	}
	l.Subscription, _ = stored.Get(subscriptionExtension)
	l.Failure, _ = delivery.Read(stored)
	l.Event = delivery.Unmark(stored)
	restore(l.Event)
	return l
}

// restore gives an event its id back.
func restore(e *event.Event) {
	if id, there := e.Get(idExtension); there {
		e.ID = id
	}
	Strip(e)
}

// For is the one subscription that an event is for, and the event as that one delivers it; "" and the event itself for every other event.
func For(e *event.Event) (subscription string, deliver *event.Event) {
	subscription, there := e.Get(forExtension)
	if !there {
		return "", e
	}
	deliver = e.Clone()
	restore(deliver)
	return subscription, deliver
}

// addressed is the letter's event, for its subscription alone. Its id is another one, because the engine may still know the event's own.
func (l Letter) addressed() *event.Event {
	e := l.Event.Clone()
	e.SetExtension(idExtension, e.ID)
	e.ID = fmt.Sprintf("%s@%s#%d", e.ID, l.Subscription, l.Sequence)
	e.SetExtension(forExtension, l.Subscription)
	return e
}
