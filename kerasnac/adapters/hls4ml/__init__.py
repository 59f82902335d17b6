"""Firmware projects by hls4ml: conversion, emulation, vendor tools."""
