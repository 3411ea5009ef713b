package main

import (
	"encoding/json"
	"fmt"

	"github.com/hyperledger/fabric-contract-api-go/v2/contractapi"
)

// pageMax is the most assets one page of a listing may hold.
const pageMax = 100

// Asset is what the ledger keeps about one asset. The fields stand in alphabetical order, so that
// every endorser writes the same JSON.
type Asset struct {
	AppraisedValue int    `json:"AppraisedValue"`
	Color          string `json:"Color"`
	ID             string `json:"ID"`
	Owner          string `json:"Owner"`
	Size           int    `json:"Size"`
}

// Page is one page of a listing; Bookmark starts the next.
type Page struct {
	Assets   []*Asset `json:"assets"`
	Bookmark string   `json:"bookmark"`
}

// Change is one value an asset has had.
type Change struct {
	TxID     string `json:"txId"`
	IsDelete bool   `json:"isDelete"`
	Value    *Asset `json:"value" metadata:",optional"`
}

// AssetContract has the functions that applications call.
type AssetContract struct {
	contractapi.Contract
}

// InitLedger puts three assets on the ledger, for a first look around.
func (c *AssetContract) InitLedger(ctx contractapi.TransactionContextInterface) error {
	assets := []Asset{
		{ID: "asset1", Color: "blue", Size: 5, Owner: "Tomoko", AppraisedValue: 300},
		{ID: "asset2", Color: "red", Size: 5, Owner: "Brad", AppraisedValue: 400},
		{ID: "asset3", Color: "green", Size: 10, Owner: "Jin", AppraisedValue: 500},
	}
	for i := range assets {
		value, err := json.Marshal(&assets[i])
		if err != nil {
			return err
		}
		if err := ctx.GetStub().PutState(assets[i].ID, value); err != nil {
			return err
		}
	}
	return nil
}

// CreateAsset refuses an id that is taken.
func (c *AssetContract) CreateAsset(ctx contractapi.TransactionContextInterface, id, color string, size int, owner string, appraisedValue int) error {
	exists, err := c.AssetExists(ctx, id)
	if err != nil {
		return err
	}
	if exists {
		return fmt.Errorf("the asset %s already exists", id)
	}
	return save(ctx, "CreateAsset", &Asset{ID: id, Color: color, Size: size, Owner: owner, AppraisedValue: appraisedValue})
}

// ReadAsset returns one asset.
func (c *AssetContract) ReadAsset(ctx contractapi.TransactionContextInterface, id string) (*Asset, error) {
	return load(ctx, id)
}

// UpdateAsset replaces an asset that exists.
func (c *AssetContract) UpdateAsset(ctx contractapi.TransactionContextInterface, id, color string, size int, owner string, appraisedValue int) error {
	if _, err := load(ctx, id); err != nil {
		return err
	}
	return save(ctx, "UpdateAsset", &Asset{ID: id, Color: color, Size: size, Owner: owner, AppraisedValue: appraisedValue})
}

// TransferAsset gives the asset to newOwner and returns who had it before.
func (c *AssetContract) TransferAsset(ctx contractapi.TransactionContextInterface, id, newOwner string) (string, error) {
	asset, err := load(ctx, id)
	if err != nil {
		return "", err
	}
	before := asset.Owner
	asset.Owner = newOwner
	return before, save(ctx, "TransferAsset", asset)
}

// DeleteAsset removes an asset that exists.
func (c *AssetContract) DeleteAsset(ctx contractapi.TransactionContextInterface, id string) error {
	asset, err := load(ctx, id)
	if err != nil {
		return err
	}
	if err := ctx.GetStub().DelState(id); err != nil {
		return err
	}
	value, err := json.Marshal(asset)
	if err != nil {
		return err
	}
	return ctx.GetStub().SetEvent("DeleteAsset", value)
}

// AssetExists tells whether anything is stored under the id.
func (c *AssetContract) AssetExists(ctx contractapi.TransactionContextInterface, id string) (bool, error) {
	value, err := ctx.GetStub().GetState(id)
	return value != nil, err
}

// GetAllAssets returns every asset in order of id.
func (c *AssetContract) GetAllAssets(ctx contractapi.TransactionContextInterface) ([]*Asset, error) {
	entries, err := ctx.GetStub().GetStateByRange("", "")
	if err != nil {
		return nil, err
	}
	defer entries.Close()
	assets := []*Asset{}
	for entries.HasNext() {
		entry, err := entries.Next()
		if err != nil {
			return nil, err
		}
		if asset := parse(entry.Value); asset != nil {
			assets = append(assets, asset)
		}
	}
	return assets, nil
}

// ListAssets returns one page of the assets in order of id; an empty bookmark starts.
func (c *AssetContract) ListAssets(ctx contractapi.TransactionContextInterface, pageSize int, bookmark string) (*Page, error) {
	size := int32(min(max(1, pageSize), pageMax))
	entries, metadata, err := ctx.GetStub().GetStateByRangeWithPagination("", "", size, bookmark)
	if err != nil {
		return nil, err
	}
	defer entries.Close()
	page := &Page{Assets: []*Asset{}, Bookmark: metadata.GetBookmark()}
	for entries.HasNext() {
		entry, err := entries.Next()
		if err != nil {
			return nil, err
		}
		if asset := parse(entry.Value); asset != nil {
			page.Assets = append(page.Assets, asset)
		}
	}
	return page, nil
}

// AssetHistory returns every value the asset has had, newest first.
func (c *AssetContract) AssetHistory(ctx contractapi.TransactionContextInterface, id string) ([]*Change, error) {
	entries, err := ctx.GetStub().GetHistoryForKey(id)
	if err != nil {
		return nil, err
	}
	defer entries.Close()
	history := []*Change{}
	for entries.HasNext() {
		entry, err := entries.Next()
		if err != nil {
			return nil, err
		}
		history = append(history, &Change{TxID: entry.TxId, IsDelete: entry.IsDelete, Value: parse(entry.Value)})
	}
	return history, nil
}

// Put writes one key as it stands; what the load generator does unless told otherwise.
func (c *AssetContract) Put(ctx contractapi.TransactionContextInterface, key, value string) error {
	return ctx.GetStub().PutState(key, []byte(value))
}

// Get reads what Put wrote.
func (c *AssetContract) Get(ctx contractapi.TransactionContextInterface, key string) (string, error) {
	value, err := ctx.GetStub().GetState(key)
	return string(value), err
}

func load(ctx contractapi.TransactionContextInterface, id string) (*Asset, error) {
	value, err := ctx.GetStub().GetState(id)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, fmt.Errorf("the asset %s does not exist", id)
	}
	asset := new(Asset)
	return asset, json.Unmarshal(value, asset)
}

func save(ctx contractapi.TransactionContextInterface, event string, asset *Asset) error {
	value, err := json.Marshal(asset)
	if err != nil {
		return err
	}
	if err := ctx.GetStub().PutState(asset.ID, value); err != nil {
		return err
	}
	return ctx.GetStub().SetEvent(event, value)
}

// parse returns nil when the value is no asset, as for what Put wrote.
func parse(value []byte) *Asset {
	asset := new(Asset)
	if json.Unmarshal(value, asset) != nil {
		return nil
	}
	return asset
}
