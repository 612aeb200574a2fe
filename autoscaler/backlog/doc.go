// Package backlog takes what the eventing part tells of events that have still to be delivered (proxy/link, service
// Backlog) and gives the autoscaler the backlog of each revision.
//
// What is told is of a whole subscription, whoever tells it. So values of several dispatchers are not added up: the one that came last
// counts. Only events that a dispatcher has put off until their next attempt are its own: they add up, and are no backlog meanwhile. Values of a dispatcher that is gone are forgotten after a while, or when it is back and does not repeat them.
//
// A subscription's URL leads to revisions by its host, as requests do, with the percentages of the traffic. A change costs the
// hosts it is about and the revisions that they lead to.
package backlog
