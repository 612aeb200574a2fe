package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// order is the data of both events.
type order struct {
	Item  string  `json:"item"`
	Count int     `json:"count"`
	Price float64 `json:"price,omitempty"`
}

// price is called for each event. What it returns is stored before the event counts as delivered; an error has the
// event delivered again. An event may come twice, so the answer's id follows from the event's.
func price(e cloudevents.Event) (*cloudevents.Event, cloudevents.Result) {
	var o order
	if err := e.DataAs(&o); err != nil || o.Count <= 0 {
		// 400 is not tried again: the event becomes a dead letter.
		return nil, cloudevents.NewHTTPResult(http.StatusBadRequest, "data has to be like {\"item\": \"tea\", \"count\": 2}: %v", err)
	}
	o.Price = 2.5 * float64(o.Count)
	log.Printf("event %s: %d of %s cost %.2f", e.ID(), o.Count, o.Item, o.Price)
	answer := e.Clone() // with the extensions, a partition key for example
	answer.SetID(e.ID() + "/priced")
	answer.SetSource("/examples/orders")
	answer.SetType("order.priced")
	if err := answer.SetData(cloudevents.ApplicationJSON, o); err != nil {
		return nil, fmt.Errorf("write the answer: %w", err)
	}
	return &answer, nil
}

func main() {
	port, err := strconv.Atoi(cmp.Or(os.Getenv("PORT"), "8080")) // the platform says where to listen
	if err != nil {
		log.Fatal("PORT: ", err)
	}
	client, err := cloudevents.NewClientHTTP(cloudevents.WithPort(port))
	if err != nil {
		log.Fatal(err)
	}
	// On SIGTERM: take no new event, finish those in progress.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log.Printf("listens on port %d", port)
	if err := client.StartReceiver(ctx, price); err != nil {
		log.Fatal(err)
	}
}
