// The tape: values that remember how they were computed.
//
//   Variable w = Variable::leaf(Tensor::of({2}, {1, 2}));   // wants a gradient
//   Variable loss = sum(mul(w, w));
//   backward(loss);
//   w.grad();                                               // [2, 4]
//
// A Variable is a value (Tensor) and a Node, its place on the tape. An op
// computes its result at once and hangs a Node under it that knows the inputs'
// Nodes and how to turn the gradient of the result into gradients of the
// inputs. backward() walks the Nodes from the loss to the leaves.
//
// What it does not do: gradients of gradients (gradients are Tensors, not
// Variables), laziness, devices, in-place ops. A graph belongs to one thread at
// a time; different graphs on different threads are fine.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/grids.h"
#include "core/pool.h"
#include "core/tensor.h"

namespace whittle::inline WHITTLE_PRECISION {

// One gradient per input, in the order of the inputs. An undefined Tensor means
// "no gradient flows to this input".
using Gradients = std::vector<Tensor, PoolAllocator<Tensor>>;

// The backward function of an op: a pure function from the gradient of its
// output to the gradients of its inputs. Move-only; the closure lives in pooled
// memory and holds the tensors it captured until it is destroyed.
class Backward {
 public:
  Backward() = default;

  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, Backward> && std::is_invocable_r_v<Gradients, F&, const Tensor&>)
  Backward(F f)  // NOLINT: a lambda converts, that is the point
      : target_(pool_allocate(sizeof(F))),
        call_([](void* target, const Tensor& grad) -> Gradients { return (*static_cast<F*>(target))(grad); }),
        destroy_([](void* target) noexcept {
          static_cast<F*>(target)->~F();
          pool_release(target, sizeof(F));
        }) {
    static_assert(std::is_nothrow_move_constructible_v<F> && alignof(F) <= 64);
    new (target_) F(std::move(f));
  }

  Backward(Backward&& other) noexcept
      : target_(std::exchange(other.target_, nullptr)), call_(other.call_), destroy_(other.destroy_) {}
  Backward& operator=(Backward&& other) noexcept {
    std::swap(target_, other.target_);
    std::swap(call_, other.call_);
    std::swap(destroy_, other.destroy_);
    return *this;
  }
  ~Backward() {
    if (target_ != nullptr) {
      destroy_(target_);
    }
  }

  explicit operator bool() const { return target_ != nullptr; }
  Gradients operator()(const Tensor& grad) const { return call_(target_, grad); }

 private:
  void* target_ = nullptr;
  Gradients (*call_)(void*, const Tensor&) = nullptr;
  void (*destroy_)(void*) noexcept = nullptr;
};

struct Node;
using NodePtr = std::shared_ptr<Node>;

// Graph state only; a Node holds no forward value.
struct Node {
  const char* op;                                       // "leaf" for leaves
  uint64_t seq;                                         // creation order, which is a topological order
  Shape shape;                                          // of the value, and so of its gradient
  Tensor grad;                                          // leaves only: what backward() has accumulated so far
  std::vector<NodePtr, PoolAllocator<NodePtr>> inputs;  // null where no gradient is needed
  Backward backward;                                    // empty for leaves, and once used

  Node(const char* op_name, uint64_t order, const Shape& value_shape) : op(op_name), seq(order), shape(value_shape) {}
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();  // iterative: a chain of a million nodes is released without recursion

  bool is_leaf() const { return op == kLeaf; }
  static constexpr char kLeaf[] = "leaf";  // an array has one address; equal literals need not
};

class Variable {
 public:
  Variable() = default;                                 // no value
  Variable(Tensor value) : value_(std::move(value)) {}  // a constant; NOLINT: data flows into ops
  static Variable leaf(Tensor value);                   // wants a gradient

  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  bool requires_grad() const { return node_ != nullptr; }
  const NodePtr& node() const { return node_; }

  // What backward() has accumulated here; undefined before the first. Leaves only.
  const Tensor& grad() const;
  void zero_grad();            // drops the gradient; grad() is undefined again
  void set_grad(Tensor grad);  // for optimizers' helpers such as clipping

  // In-place access to a leaf's value, for optimizers and loaders. All copies of
  // this Variable see the change; a graph built before it must not be run
  // backward after it.
  real* mutable_data();
  void assign(const Tensor& value);  // copies the elements; the shape must agree

  Variable detach() const { return Variable(value_); }  // same value, off the tape

  // The grids that every element lies on, or null. What puts values on grids says so by on();
  // ops that only move values about keep them (reshape, max_pool, relu), the others drop them.
  const GridsPtr& grids() const { return grids_; }
  Variable on(GridsPtr grids) const;  // the same value and place on the tape, on these grids

 private:
  friend Variable make_op(const char*, Tensor, std::span<const Variable>, Backward);
  Tensor value_;
  NodePtr node_;
  GridsPtr grids_;
};

// How every op ends. Puts `out` on the tape if gradients are on and any input
// wants one; otherwise returns a constant and drops `backward` with what it
// captured. `op` must be a string literal.
Variable make_op(const char* op, Tensor out, std::span<const Variable> inputs, Backward backward);
Variable make_op(const char* op, Tensor out, std::initializer_list<Variable> inputs, Backward backward);

// The first line of every op: throws unless x has a value.
void require_defined(const char* op, const Variable& x);

// Computes d loss / d leaf for every leaf the loss depends on and adds it to the
// leaf's grad(). `loss` must have one element. The graph is consumed: its
// closures are released as they are used, and a second backward through any of
// it throws. If anything throws, no leaf's gradient has changed.
void backward(const Variable& loss);

// While one lives, ops on this thread record nothing.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};
bool grad_enabled();

}  // namespace whittle::inline WHITTLE_PRECISION
