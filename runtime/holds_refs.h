// kHoldsRefs<T>: whether the compiler can see that values of type T hold a Ref. Only heap objects may (interfaces/
// object.h), so every template of the surface that keeps a value elsewhere refuses such a T where it is compiled; else
// the mistake runs in a release build, and a collection takes what the Ref refers to.
//
// Seen are: a Ref; an array of something seen; a type that says GEARBOX_REFS; the common containers and wrappers of
// something seen; and an aggregate one of whose fields is a Ref, or whose fields have such a field. For an aggregate,
// whose fields have no names here, the question is put to its initialisation: at which place does it take a thing that
// converts to Refs and to nothing else? What is hidden behind constructors, as in a closure, cannot be seen: there
// a checked build dies where the Ref is made.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "interfaces/object.h"

namespace gearbox {
namespace detail {

// Declared only. Anything converts to whatever is wanted, OnlyRef to Refs, Nothing to nothing: a field that takes
// Nothing takes all things (std::any), and says nothing by taking a Ref.
template <std::size_t>
struct Anything {
  template <class U>
  operator U() const noexcept;  // NOLINT(google-explicit-constructor)
};
struct OnlyRef {
  template <class U>
  operator Ref<U>() const noexcept;  // NOLINT(google-explicit-constructor)
};
struct Nothing {};

template <class T, class Indexes, class... Last>
inline constexpr bool kTakes = false;
template <class T, std::size_t... I, class... Last>
requires requires { T{Anything<I>{}..., Last{}...}; }
inline constexpr bool kTakes<T, std::index_sequence<I...>, Last...> = true;
template <class T, class Outer, class Inner, class Last>
inline constexpr bool kTakesWithin = false;
template <class T, std::size_t... I, std::size_t... J, class Last>
requires requires { T{Anything<I>{}..., {Anything<J>{}..., Last{}}}; }
inline constexpr bool kTakesWithin<T, std::index_sequence<I...>, std::index_sequence<J...>, Last> = true;

inline constexpr std::size_t kMostFieldsLookedAt = 16, kMostInnerFieldsLookedAt = 6;

template <class T, std::size_t kAt, std::size_t kInner = 0>
constexpr bool ref_within() {
  using Outer = std::make_index_sequence<kAt>;
  using Inner = std::make_index_sequence<kInner>;
  if constexpr (kTakesWithin<T, Outer, Inner, OnlyRef> && !kTakesWithin<T, Outer, Inner, Nothing>)
    return true;
  else if constexpr (kInner + 1 < kMostInnerFieldsLookedAt)
    return ref_within<T, kAt, kInner + 1>();
  else
    return false;
}
template <class T, std::size_t kAt = 0>
constexpr bool ref_among_fields() {
  using Before = std::make_index_sequence<kAt>;
  if constexpr (kTakes<T, Before, OnlyRef> && !kTakes<T, Before, Nothing>)
    return true;
  else if constexpr (kAt == kMostFieldsLookedAt || !kTakes<T, std::make_index_sequence<kAt + 1>>)
    return false;
  else
    return ref_within<T, kAt>() || ref_among_fields<T, kAt + 1>();
}

template <class T>
constexpr bool holds_refs() {
  if constexpr (IsRef<T>::value)
    return true;
  else if constexpr (std::is_array_v<T>)
    return holds_refs<std::remove_cv_t<std::remove_all_extents_t<T>>>();
  else if constexpr (SaysItsRefs<T>)
    return kHasRefs<T>;
  else if constexpr (std::is_class_v<T> && std::is_aggregate_v<T> && !std::is_empty_v<T>)
    return ref_among_fields<T>();
  else
    return false;
}
template <class T>
struct HoldsRefs : std::bool_constant<holds_refs<T>()> {};
template <class... T>
struct AnyHoldsRefs : std::bool_constant<(HoldsRefs<std::remove_cv_t<T>>::value || ...)> {};
template <class T>
struct HoldsRefs<std::optional<T>> : AnyHoldsRefs<T> {};
template <class... T>
struct HoldsRefs<std::tuple<T...>> : AnyHoldsRefs<T...> {};
template <class... T>
struct HoldsRefs<std::variant<T...>> : AnyHoldsRefs<T...> {};
template <class A, class B>
struct HoldsRefs<std::pair<A, B>> : AnyHoldsRefs<A, B> {};
template <class T, std::size_t kCount>
struct HoldsRefs<std::array<T, kCount>> : AnyHoldsRefs<T> {};
template <class T, class A>
struct HoldsRefs<std::vector<T, A>> : AnyHoldsRefs<T> {};
template <class T, class D>
struct HoldsRefs<std::unique_ptr<T, D>> : AnyHoldsRefs<std::remove_all_extents_t<T>> {};
template <class T>
struct HoldsRefs<std::shared_ptr<T>> : AnyHoldsRefs<std::remove_all_extents_t<T>> {};

}  // namespace detail

// T is complete.
template <class T>
inline constexpr bool kHoldsRefs = detail::HoldsRefs<std::remove_cvref_t<T>>::value;

}  // namespace gearbox
