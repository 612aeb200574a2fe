// Package subscription keeps, for each Subscription, a place in the topic of its Channel, and finds
// out where its events and their replies go. A place is made once the Channel has a topic and
// the destinations have addresses for the first time, and stays until the Subscription or the Channel goes.
package subscription
