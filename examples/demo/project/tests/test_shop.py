"""What the shop promises."""

import unittest

from shop.cart import Cart
from shop.money import cents, written
from shop.receipt import lines, pages


class Money(unittest.TestCase):
    def test_whole_prices(self):
        self.assertEqual(cents("12.34"), 1234)

    def test_half_a_cent_is_rounded_up(self):
        self.assertEqual([cents("1.005"), cents("0.125"), cents("2.675")], [101, 13, 268])

    def test_every_price_comes_back(self):
        for amount in range(100_000):
            self.assertEqual(cents(written(amount)), amount)


class Carts(unittest.TestCase):
    def test_the_total(self):
        cart = Cart([])
        cart.add("pear", "0.40", 3)
        cart.add("bread", "2.80")
        self.assertEqual(cart.total(), 400)

    def test_each_customer_has_an_own_cart(self):
        Cart().add("pear", "0.40")
        self.assertEqual(Cart().total(), 0)


class Receipts(unittest.TestCase):
    def test_a_line_for_each_thing(self):
        cart = Cart([("pear", 40, 3)])
        self.assertEqual(lines(cart), ["3 x pear                       1.20"])

    def test_full_pages(self):
        self.assertEqual(pages(list("abcd"), 2), [["a", "b"], ["c", "d"]])

    def test_the_last_page_need_not_be_full(self):
        self.assertEqual(pages(list("abc"), 2), [["a", "b"], ["c"]])
